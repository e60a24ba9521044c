"""From raw text to typed, unit-free columns, and the rules that a possible listing keeps.

The SQL below is the only definition of both: a batch is cleaned with it, and the model carries it, to the
letter, as the first stage of its pipeline. Nothing in it throws, whatever the text is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pyspark.ml.feature import SQLTransformer
from pyspark.sql import Column, DataFrame, Observation, Window
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.errors import BadBatchError, reading
from usedcars_assets.pipeline.raw_listings import (
    MALFORMED_ROW,
    RAW_COLUMNS,
    not_utf8_lines,
)

# What the published file writes for "not known".
PLACEHOLDERS = ("", "--", "none", "null", "nan", "n/a")

# A listing outside these is impossible, and rejected. The published file's cars (up to 1,001 hp, from Hawaii
# to Puerto Rico) lie inside.
EARLIEST_YEAR, LATEST_YEAR, MOST_YEARS_AHEAD = 1900, 2035, 2
MOST_MILES = 500_000
LEAST_HORSEPOWER, MOST_HORSEPOWER = 10, 2_500
SOUTH, NORTH, WEST, EAST = 13, 72, -180, -64
LEAST_PRICE_USD, MOST_PRICE_USD = 200, 3_500_000
# A family car at three million dollars is a slip; one among the test rows hides every other error.
# What is dear for its power (a Bugatti Veyron: 1,001 hp, 2 million USD) stays below this.
MOST_USD_PER_HORSEPOWER, HORSEPOWER_WHERE_UNKNOWN = 2_500, 200
# Typed in place of a price. 12,345 or 99,999 may be one.
NO_PRICES = (
    123456,
    1234567,
    *(int(digit * 6) for digit in "123456789"),
    *(int(digit * 7) for digit in "123"),
)

# A row longer than this has swallowed its successors: a quote was opened and never closed.
LONGEST_MALFORMED_ROW = 1_000_000


@dataclass(frozen=True)
class Number:
    """A numeric column: its raw field, the unit written behind it, and what is plausible.

    What is not plausible becomes null; the columns named in RULES reject the listing before that matters.
    """

    column: str
    field: str
    low: float
    high: float
    unit: str = ""
    part: str = ""  # `before @` or `after @`, as in "177 hp @ 5,750 RPM"
    type: str = "DOUBLE"


NUMBERS = (
    Number("year", "year", EARLIEST_YEAR, LATEST_YEAR, type="INT"),
    Number("mileage_miles", "mileage", 0, MOST_MILES, "miles"),
    Number("horsepower", "horsepower", LEAST_HORSEPOWER, MOST_HORSEPOWER, "hp"),
    Number("latitude", "latitude", SOUTH, NORTH),
    Number("longitude", "longitude", WEST, EAST),
    Number("power_hp", "power", LEAST_HORSEPOWER, MOST_HORSEPOWER, "hp", "before @"),
    Number("power_rpm", "power", 500, 20_000, "rpm", "after @"),
    Number("torque_lb_ft", "torque", 10, 3_000, "lb-ft", "before @"),
    Number("torque_rpm", "torque", 100, 20_000, "rpm", "after @"),
    Number("engine_displacement_cc", "engine_displacement", 300, 12_000, "cc"),
    Number("city_mpg", "city_fuel_economy", 4, 200, "mpg"),
    Number("highway_mpg", "highway_fuel_economy", 4, 200, "mpg"),
    Number("fuel_tank_gal", "fuel_tank_volume", 1, 100, "gal"),
    Number("length_in", "length", 90, 350, "in"),
    Number("width_in", "width", 45, 130, "in"),
    Number("height_in", "height", 35, 140, "in"),
    Number("wheelbase_in", "wheelbase", 60, 250, "in"),
    Number("front_legroom_in", "front_legroom", 20, 80, "in"),
    Number("back_legroom_in", "back_legroom", 0, 80, "in"),
    Number("bed_length_in", "bed_length", 30, 150, "in"),
    Number("seats", "maximum_seating", 1, 20, "seats", type="INT"),
    Number("owner_count", "owner_count", 0, 50, type="INT"),
    Number("seller_rating", "seller_rating", 0, 5),
    Number("days_on_market", "daysonmarket", 0, 10_000, type="INT"),
)
TEXTS: Mapping[str, str] = {
    "make_name": "make_name",
    "model_name": "model_name",
    "trim_name": "trim_name",
    "body_type": "body_type",
    "cabin": "cabin",
    "city": "city",
    "dealer_zip": "dealer_zip",
    "dealer_id": "sp_id",
    "engine_type": "engine_type",
    "franchise_make": "franchise_make",
    "fuel_type": "fuel_type",
    "color": "listing_color",
    "major_options": "major_options",
    "transmission": "transmission",
    "transmission_display": "transmission_display",
    "wheel_system": "wheel_system",
}
FLAGS: Mapping[str, str] = {
    "is_new": "is_new",
    "is_cpo": "is_cpo",
    "is_oemcpo": "is_oemcpo",
    "is_cab": "isCab",
    "is_fleet": "fleet",
    "is_franchise_dealer": "franchise_dealer",
    "has_accidents": "has_accidents",
    "has_frame_damage": "frame_damaged",
    "has_salvage_title": "salvage",
    "has_theft_title": "theft_title",
}


@dataclass(frozen=True)
class Rule:
    """What makes a listing impossible: reason code, raw field at fault, and the condition in SQL."""

    reason: str
    field: str | None
    condition: str


def _text(field: str) -> str:
    """The raw text of a field; null where the file says that it is not known."""
    trimmed = f"trim(listing_raw.{field})"
    # Most texts are longer than any placeholder, and to know that costs nothing.
    known = (
        f"octet_length({trimmed}) > {max(map(len, PLACEHOLDERS))} "
        f"OR lower({trimmed}) NOT IN ({', '.join(map(repr, PLACEHOLDERS))})"
    )
    return f"CASE WHEN {known} THEN {trimmed} END"


def _number(number: Number) -> str:
    """The number in a text with or without its unit and thousands separators; null where there is none."""
    text = raw = f"listing_raw.{number.field}"
    # The usual placeholder is no number either, but Spark finds that out by an exception, which is dear.
    worth_a_try = f"{raw} <> '--'"
    if number.part:
        text = f"substring_index({text}, '@', {1 if number.part == 'before @' else -1})"
        if number.part == "after @":
            worth_a_try += f" AND contains({raw}, '@')"
    unit = f" {number.unit}{number.unit.upper()}"  # its letters, of either case, are cut off at the end
    number_alone = f"replace(rtrim('{unit}', {text}), ',', '')"
    return f"CASE WHEN {worth_a_try} THEN try_cast({number_alone} AS DOUBLE) END"


def _flag(field: str) -> str:
    return f"CASE lower(trim(listing_raw.{field})) WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END"


def _required(field: str) -> Rule:
    return Rule(f"missing_{field}", field, f"{_text(field)} IS NULL")


def _number_rules(column: str, field: str, low: float, high: float) -> tuple[Rule, Rule]:
    value = f"listing_numbers.{column}"
    return (
        Rule(f"{field}_not_a_number", field, f"{value} IS NULL AND {_text(field)} IS NOT NULL"),
        # NaN is greater than any number in Spark, so it is out of range as well.
        Rule(f"{field}_out_of_range", field, f"{value} NOT BETWEEN {low} AND {high}"),
    )


RULES: tuple[Rule, ...] = (
    *(_required(field) for field in ("make_name", "model_name", "year")),
    *_number_rules("year", "year", EARLIEST_YEAR, LATEST_YEAR),
    Rule(
        "year_out_of_range",
        "year",
        f"listing_numbers.year > year(try_cast({_text('listed_date')} AS DATE)) + {MOST_YEARS_AHEAD}",
    ),
    *_number_rules("mileage_miles", "mileage", 0, MOST_MILES),
    *_number_rules("horsepower", "horsepower", LEAST_HORSEPOWER, MOST_HORSEPOWER),
    *_number_rules("latitude", "latitude", SOUTH, NORTH),
    *_number_rules("longitude", "longitude", WEST, EAST),
)
# In a price request: its `listing` is no JSON object.
REQUEST_RULES = (
    Rule("unreadable_listing", None, "listing_raw IS NULL OR listing_raw.unreadable_listing IS NOT NULL"),
    *RULES,
)
# In a batch: the row is no listing, or has no price to learn from.
BATCH_RULES = (
    Rule(MALFORMED_ROW, None, f"{MALFORMED_ROW} IS NOT NULL"),
    _required("listing_id"),
    *RULES,
    _required("price"),
    *_number_rules("price_usd", "price", LEAST_PRICE_USD, MOST_PRICE_USD),
    Rule("placeholder_price", "price", f"listing_numbers.price_usd IN ({', '.join(map(str, NO_PRICES))})"),
    Rule(
        "implausible_price",
        "price",
        "listing_numbers.price_usd > "
        f"{MOST_USD_PER_HORSEPOWER} * coalesce(listing_numbers.horsepower, {HORSEPOWER_WHERE_UNKNOWN})",
    ),
)
_PRICE = Number("price_usd", "price", LEAST_PRICE_USD, MOST_PRICE_USD, "usd")


def _numbers(numbers: tuple[Number, ...]) -> str:
    return f"named_struct({', '.join(f'{number.column!r}, {_number(number)}' for number in numbers)})"


def _columns(numbers: tuple[Number, ...]) -> list[str]:
    plausible = [
        f"CAST(CASE WHEN {value} BETWEEN {number.low} AND {number.high} THEN {value} END AS {number.type}) "
        f"AS {number.column}"
        for number in numbers
        for value in (f"listing_numbers.{number.column}",)
    ]
    texts = [f"{_text(field)} AS {column}" for column, field in TEXTS.items()]
    flags = [f"{_flag(field)} AS {column}" for column, field in FLAGS.items()]
    return [*plausible, *texts, *flags, f"try_cast({_text('listed_date')} AS DATE) AS listed_date"]


def _first_broken(rules: tuple[Rule, ...]) -> str:
    cases = " ".join(
        f"WHEN {rule.condition} THEN named_struct('reason', {rule.reason!r}, 'field', "
        f"{repr(rule.field) if rule.field else 'CAST(NULL AS STRING)'})"
        for rule in rules
    )
    return f"CASE {cases} END"


def _typed_columns() -> list[str]:
    return [*(number.column for number in NUMBERS), *TEXTS, *FLAGS, "listed_date"]


def listing_json() -> Column:
    """A cleaned row as the JSON object that the model takes, under the raw names, without its price.

    `cleaning_stage` makes the same columns of it as of the raw row, to the last digit.
    """
    parts: dict[str, list[str]] = {}
    for number in NUMBERS:
        parts.setdefault(number.field, []).append(number.column)
    numbers = {field: columns[0] for field, columns in parts.items() if len(columns) == 1} | {
        # Two numbers in one text, as in "177 hp @ 5,750 RPM".
        field: f"nullif(concat(coalesce(CAST({columns[0]} AS STRING), ''), "
        f"coalesce(concat(' @ ', CAST({columns[1]} AS STRING)), '')), '')"
        for field, columns in parts.items()
        if len(columns) == 2
    }
    others = {field: column for column, field in {**TEXTS, **FLAGS}.items()}
    fields = {**numbers, **others, "listed_date": "listed_date"}
    return sf.expr(
        f"to_json(named_struct({', '.join(f'{field!r}, {sql}' for field, sql in fields.items())}))"
    )


def cleaning_stage() -> SQLTransformer:
    """The first stage of every model: `listing`, a JSON string, to the cleaned columns.

    Adds `rejection` and `rejection_field`: reason code and raw field of the first rule broken, or null.
    All other columns pass through.
    """
    read = (*(number.field for number in NUMBERS), *TEXTS.values(), *FLAGS.values(), "listed_date")
    fields = ", ".join(f"{field} STRING" for field in dict.fromkeys((*read, "unreadable_listing")))
    return SQLTransformer(
        statement=f"""
        SELECT * EXCEPT (listing_raw, listing_numbers, listing_broken), {", ".join(_columns(NUMBERS))},
            listing_broken.reason AS rejection, listing_broken.field AS rejection_field
        FROM (SELECT *, {_first_broken(REQUEST_RULES)} AS listing_broken
        FROM (SELECT *, {_numbers(NUMBERS)} AS listing_numbers
        FROM (SELECT *, from_json(listing, '{fields}',
            map('columnNameOfCorruptRecord', 'unreadable_listing')) AS listing_raw
        FROM __THIS__)))"""  # noqa: S608 (made of constants)
    )


@dataclass(frozen=True)
class BatchCounts:
    """Rows of a batch; `read` was counted by the reader, the others after cleaning."""

    read: int
    cleaned: int
    rejected: int
    duplicates: int
    rejected_by_reason: Mapping[str, int]


@dataclass(frozen=True)
class CleanedBatch:
    """A batch in three tables that together hold each of its rows once; a context manager, as it is cached.

    cleaned: listing_id, vin, price_usd, the columns of NUMBERS, TEXTS and FLAGS, listed_date.
    rejected: the 66 raw columns, malformed_row, reason, field.
    duplicates: as cleaned; earlier or less complete rows of a listing_id that `cleaned` holds.
    """

    cleaned: DataFrame
    rejected: DataFrame
    duplicates: DataFrame
    counts: BatchCounts
    cached: DataFrame

    def __enter__(self) -> Self:
        """The batch, cached until the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Frees the cache."""
        self.release()

    def release(self) -> None:
        """Frees the cache; the tables then read the CSV files again."""
        self.cached.unpersist()


def clean_listings(raw: DataFrame) -> CleanedBatch:
    """Types, checks and deduplicates the rows of `read_raw_listings`, reading them once.

    Of several rows with one listing_id the one listed last stays, of these the most complete.
    Raises BadBatchError when there are no rows, all prices are missing, the files are not UTF-8, a quote is
    never closed, or no row is left.
    """
    files = sorted(raw.inputFiles())
    where = files[0].rpartition("/")[0] if files else "the batch"
    observation = Observation()
    numbers = (*NUMBERS, _PRICE)
    marked = (
        raw.observe(observation, sf.count(sf.lit(1)).alias("read"))
        .select(sf.struct(*RAW_COLUMNS).alias("listing_raw"), MALFORMED_ROW)
        .selectExpr("*", f"{_text('listing_id')} AS listing_id")
        # One task reads a file: it hands on the rows as they are, and all cores type them.
        .repartition("listing_id")
        .selectExpr("*", f"{_numbers(numbers)} AS listing_numbers")
        .selectExpr("*", f"{_first_broken(BATCH_RULES)} AS broken")
        .selectExpr(
            "listing_id",
            f"{_text('vin')} AS vin",
            *_columns(numbers),
            "broken",
            f"CASE WHEN broken IS NOT NULL THEN struct(listing_raw.*, {MALFORMED_ROW}) END AS rejected_row",
            f"{_text('price')} IS NOT NULL AS has_price",
            # What the reader makes of bytes that are not UTF-8, and what a file may hold as well.
            " OR ".join(f"coalesce(contains(listing_raw.{name}, '\ufffd'), FALSE)" for name in RAW_COLUMNS)
            + f" OR coalesce(contains({MALFORMED_ROW}, '\ufffd'), FALSE) AS has_replacement",
        )
    )
    typed = ["listing_id", "vin", "price_usd", *_typed_columns()]
    newest_first = Window.partitionBy("listing_id", sf.col("broken").isNull()).orderBy(
        sf.desc_nulls_last("listed_date"),
        sf.expr(" + ".join(f"CAST({column} IS NULL AS INT)" for column in typed)),
        sf.xxhash64(*typed),
    )
    outcome = sf.expr(
        "CASE WHEN broken IS NOT NULL THEN 'rejected' WHEN place > 1 THEN 'duplicate' ELSE 'cleaned' END"
    )
    cached = (
        marked.withColumn("place", sf.row_number().over(newest_first))
        .withColumn("outcome", outcome)
        .persist()
    )
    try:
        counts = _count(cached, observation, files, where)
    except BaseException:
        cached.unpersist()
        raise
    return CleanedBatch(
        cleaned=cached.where("outcome = 'cleaned'").select(*typed),
        rejected=cached.where("outcome = 'rejected'").select(
            "rejected_row.*", sf.col("broken.reason"), sf.col("broken.field")
        ),
        duplicates=cached.where("outcome = 'duplicate'").select(*typed),
        counts=counts,
        cached=cached,
    )


def _count(cached: DataFrame, observation: Observation, files: list[str], where: str) -> BatchCounts:
    with reading("The batch", where, vanished=BadBatchError):
        groups = (
            cached.groupBy("outcome", "broken.reason")
            .agg(
                sf.count(sf.lit(1)).alias("rows"),
                sf.count_if("has_price").alias("priced"),
                sf.count_if("has_replacement").alias("replacements"),
                sf.max(sf.length(f"rejected_row.{MALFORMED_ROW}")).alias("longest_malformed"),
            )
            .collect()
        )
        if any(row.replacements for row in groups):
            broken_files = not_utf8_lines(cached.sparkSession, files).distinct().collect()
            if broken_files:
                raise BadBatchError(
                    f"The file {broken_files[0].file} is not UTF-8: "
                    "convert it, for instance with iconv, and upload the batch again."
                )
    rows: dict[str, int] = {"cleaned": 0, "rejected": 0, "duplicate": 0}
    for row in groups:
        rows[row.outcome] += row.rows
    if not groups:
        raise BadBatchError(f"The batch at {where} has a header but no rows: upload it again with its rows.")
    if max(row.longest_malformed or 0 for row in groups) > LONGEST_MALFORMED_ROW:
        raise BadBatchError(
            f"A row of the batch at {where} has more than {LONGEST_MALFORMED_ROW:,} characters and not 66 "
            "fields, so a quote is never closed: repair the file and upload the batch again."
        )
    if not any(row.priced for row in groups):
        raise BadBatchError(
            f"No row of the batch at {where} has a price, so there is nothing to learn from it: "
            "upload it again with its column price filled."
        )
    reasons = {row.reason: row.rows for row in groups if row.outcome == "rejected"}
    if not rows["cleaned"]:
        listed = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        raise BadBatchError(
            f"All {rows['rejected']} rows of the batch at {where} were rejected ({listed}): "
            "correct the source and upload the batch again."
        )
    return BatchCounts(
        read=observation.get["read"],
        cleaned=rows["cleaned"],
        rejected=rows["rejected"],
        duplicates=rows["duplicate"],
        rejected_by_reason=dict(sorted(reasons.items())),
    )
