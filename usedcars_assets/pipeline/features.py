"""Features: what the base models see of a listing, fitted once for all of them on the training rows only."""

import datetime
import math
from dataclasses import dataclass

from pyspark.ml import PipelineModel
from pyspark.ml.feature import CountVectorizerModel, Imputer, ImputerModel, SQLTransformer, VectorAssembler
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.cleaning import TEXTS, cleaning_stage
from usedcars_assets.pipeline.encoding import fit_target_encoders, words_in_fold
from usedcars_assets.pipeline.errors import PipelineError
from usedcars_assets.pipeline.queries_at_once import queries_at_once
from usedcars_assets.pipeline.training_distribution import TrainingDistribution, training_distribution

_HUNDREDTHS_OF_PERCENT = 10_000
_FEWEST_ROWS = 5
_MOST_DEVIATIONS = 4.0


@dataclass(frozen=True)
class FeatureSettings:
    """How the rows are divided and the categories encoded."""

    folds: int = 5
    test_fraction: float = 0.15
    seed: int = 20
    smoothing: float = 20.0  # rows that weigh as much as the mean of all rows
    effect_smoothing: float = 3.0  # rows that weigh as much as an effect of none
    rarest: int = 20  # rows that a one-hot category needs


@dataclass(frozen=True)
class FeatureTables:
    """The feature tables and what made them.

    train, test: listing_id, fold (train only), price (USD), log_price, features (vector for trees),
        linear_features (vector for linear models: features, powers, one-hot), make_name, body_type, year.
    names: of what stands where in each of the vectors.
    pipeline: from cleaned columns to both vectors, for rows it was not fitted on.
    distribution: of the training rows, by feature.
    """

    train: DataFrame
    test: DataFrame
    names: dict[str, tuple[str, ...]]
    pipeline: PipelineModel
    distribution: TrainingDistribution


_AGE = "greatest(datediff({date}, make_date(year, 1, 1)) / 365.25D, 0D)"
_POWER = "coalesce(horsepower, power_hp)"
# Numbers that may be missing: a median replaces them.
NUMBERS: dict[str, str] = {
    "age_years": _AGE,
    "log_miles": "ln(1D + mileage_miles)",
    "log_miles_per_year": f"ln(1D + mileage_miles / greatest({_AGE}, 0.5D))",
    "power": _POWER,
    "power_rpm": "power_rpm",
    "torque": "torque_lb_ft",
    "torque_rpm": "torque_rpm",
    "litres": "engine_displacement_cc / 1000D",
    "power_per_litre": f"{_POWER} / (engine_displacement_cc / 1000D)",
    # Nobody lists the weight; what a car weighs goes with the box that holds it.
    "power_per_volume": f"{_POWER} / (length_in * width_in * height_in / 61024D)",
    "cylinders": "try_cast(trim(substring(engine_type, 2, 2)) AS DOUBLE)",
    "city_mpg": "city_mpg",
    "highway_mpg": "highway_mpg",
    "tank": "fuel_tank_gal",
    "length": "length_in",
    "width": "width_in",
    "height": "height_in",
    "wheelbase": "wheelbase_in",
    "front_legroom": "front_legroom_in",
    "back_legroom": "back_legroom_in",
    "bed_length": "bed_length_in",
    "seats": "CAST(seats AS DOUBLE)",
    "owners": "CAST(owner_count AS DOUBLE)",
    "seller_rating": "seller_rating",
    "log_days_on_market": "ln(1D + days_on_market)",
    "latitude": "latitude",
    "longitude": "longitude",
}
# Numbers that are always known; the flags among them are 0 or 1.
FLAGS: dict[str, str] = {
    "model_year": "CAST(coalesce(year, 0) AS DOUBLE)",
    "listed_month": "CAST(month({date}) AS DOUBLE)",
    "options": (
        # Bytes, as Spark has to count characters.
        "CASE WHEN octet_length(major_options) > 2 THEN 1D + octet_length(major_options)"
        " - octet_length(replace(major_options, ',', '')) ELSE 0D END"
    ),
    **{
        f"has_{name}": f"CAST(coalesce(contains(major_options, '{option}'), FALSE) AS DOUBLE)"
        for name, option in {
            "leather": "Leather Seats",
            "sunroof": "Sunroof",
            "navigation": "Navigation System",
            "adaptive_cruise": "Adaptive Cruise Control",
            "heated_seats": "Heated Seats",
            "camera": "Backup Camera",
            "remote_start": "Remote Start",
            "third_row": "Third Row",
            "blind_spot": "Blind Spot",
            "carplay": "CarPlay",
            "premium_package": "Premium",
            "technology_package": "Technology",
            "sport_package": "Sport",
            "towing": "Tow",
        }.items()
    },
    **{
        name: f"CAST(coalesce({name}, FALSE) AS DOUBLE)"
        for name in (
            *("is_new", "is_cpo", "is_oemcpo", "is_cab", "is_fleet", "is_franchise_dealer"),
            *("has_accidents", "has_frame_damage", "has_salvage_title", "has_theft_title"),
        )
    },
    "dealer_sells_make": "CAST(coalesce(lower(franchise_make) = lower(make_name), FALSE) AS DOUBLE)",
    "is_manual": "CAST(coalesce(transmission = 'M', FALSE) AS DOUBLE)",
    "lacks_history": "CAST(has_accidents IS NULL AS DOUBLE)",
    "lacks_mileage": "CAST(mileage_miles IS NULL AS DOUBLE)",
    "lacks_owners": "CAST(owner_count IS NULL AS DOUBLE)",
    "lacks_economy": "CAST(city_mpg IS NULL AS DOUBLE)",
    "lacks_torque": "CAST(torque_lb_ft IS NULL AS DOUBLE)",
    "lacks_dealer": "CAST(dealer_id IS NULL AS DOUBLE)",
}
# Categories that are encoded by the prices of their rows.
ENCODED: dict[str, tuple[str, ...]] = {
    "make": ("make_name",),
    "model": ("make_name", "model_name"),
    "model_of_year": ("make_name", "model_name", "year"),
    "trim": ("make_name", "model_name", "trim_name"),
    "body": ("body_type", "cabin"),
    "engine": ("engine_type",),
    "gearbox": ("transmission_display",),
    "wheels": ("wheel_system",),
    "fuel": ("fuel_type",),
    "color": ("color",),
    "city": ("city", "substring(dealer_zip, 1, 3)"),
    "dealer": ("dealer_id",),
}
# What the effects of categories are taken beside, in bands: the first of the sweep.
BANDS: dict[str, tuple[str, ...]] = {
    "age": ("is_new", f"round({_AGE})"),
    "miles": ("floor(least(mileage_miles, 300000D) / 10000D)",),
}
# Categories and bands whose effects at equal others are features, in the order of the sweep.
EFFECTS = (*BANDS, "model", "trim", "dealer")
# Categories that the linear models see one by one.
ONE_HOT: dict[str, str] = {
    "make": "make_name",
    "body": "body_type",
    "fuel": "fuel_type",
    "wheels": "wheel_system",
    "gearbox": "transmission",
    "year": "year",
}
# Bends that a linear model cannot find by itself.
BENDS: dict[str, str] = {
    "age_squared": f"pow({_AGE}, 2)",
    "age_log_miles": f"{_AGE} * ln(1D + mileage_miles)",
    "power_squared": f"pow({_POWER} / 100D, 2)",
}
FEATURE_NAMES: tuple[str, ...] = (
    *NUMBERS,
    *FLAGS,
    *(f"price_of_{name}" for name in ENCODED),
    *(f"effect_of_{name}" for name in EFFECTS),
    "effects",
)
_WORDS = (*ENCODED, *BANDS)
_SLICES = ("make_name", "body_type", "year")  # that errors are told by


def latest_of_each_listing(cleaned: DataFrame) -> DataFrame:
    """Of the rows of several batches, the latest of each listing_id; column `batch` gives the order."""
    newest_first = Window.partitionBy("listing_id").orderBy(
        sf.desc("batch"), sf.desc_nulls_last("listed_date"), sf.xxhash64(*sorted(cleaned.columns))
    )
    return cleaned.withColumn("place", sf.row_number().over(newest_first)).where("place = 1").drop("place")


def split_rows(cleaned: DataFrame, settings: FeatureSettings) -> DataFrame:
    """Adds `split` and `fold` by hashes of the car, so that it never moves as batches accumulate."""

    def bucket(purpose: str, buckets: int) -> Column:
        salt = sf.lit(f"{purpose} {settings.seed}")
        return sf.pmod(sf.xxhash64(salt, sf.coalesce("vin", "listing_id")), sf.lit(buckets)).cast("int")

    is_test = bucket("split", _HUNDREDTHS_OF_PERCENT) < settings.test_fraction * _HUNDREDTHS_OF_PERCENT
    return cleaned.withColumn("split", sf.when(is_test, "test").otherwise("train")).withColumn(
        "fold", sf.when(~is_test, bucket("fold", settings.folds))
    )


def build_features(cleaned: DataFrame, settings: FeatureSettings) -> FeatureTables:
    """Divides the rows, fits all feature stages on the training part, and makes both tables.

    cleaned: rows of `clean_listings`, one a listing_id. Raises PipelineError when a part or a fold is empty.
    """
    split = split_rows(cleaned, settings).withColumn("log_price", sf.ln("price_usd"))
    derive = _derive(_latest_day(split, settings))
    in_train, in_test = (derive.transform(split.where(sf.col("split") == part)) for part in ("train", "test"))
    categories = sorted({column for columns in ENCODED.values() for column in columns} & set(TEXTS))
    derived = in_train.select(
        *dict.fromkeys(("listing_id", "fold", "price_usd", "log_price", *_SLICES, *categories)),
        *(f"derived_{name}" for name in (*NUMBERS, *FLAGS, *BENDS)),
        "encoded_words",
        "one_hot_words",
    ).localCheckpoint()  # Else each query plans all that made the rows again, for seconds.
    encoders, distribution, known, one_hot = queries_at_once(
        cleaned.sparkSession,
        lambda: fit_target_encoders(
            derived,
            words="encoded_words",
            target="log_price",
            fold="fold",
            output="encodings",
            encoded=[_WORDS.index(name) for name in ENCODED],
            smoothing=settings.smoothing,
            effects=[_WORDS.index(name) for name in EFFECTS],
            effect_smoothing=settings.effect_smoothing,
        ),
        lambda: training_distribution(
            derived,
            numbers={name: f"derived_{name}" for name in (*NUMBERS, *FLAGS)},
            categories=categories,
            stages=(cleaning_stage(), derive),
        ),
        lambda: _bounded_and_imputed(derived),
        lambda: _one_hot(derived, settings.rarest),
    )
    features = VectorAssembler(
        inputCols=[
            *(f"known_{name}" for name in NUMBERS),
            *(f"derived_{name}" for name in FLAGS),
            "encodings",
        ],
        outputCol="features",
        handleInvalid="keep",
    )
    linear_features = VectorAssembler(
        inputCols=["features", *(f"known_{name}" for name in BENDS), "one_hot"],
        outputCol="linear_features",
        handleInvalid="keep",
    )
    vectors = (one_hot, features, linear_features)
    of_new_rows = PipelineModel([*known, encoders.for_new_rows, *vectors])
    of_train = PipelineModel([*known, encoders.out_of_fold, *vectors])
    in_folds = derived.withColumn("encoded_words", words_in_fold("encoded_words", "fold"))
    kept = ("price_usd AS price", "log_price", "features", "linear_features", *_SLICES)
    return FeatureTables(
        train=of_train.transform(in_folds).selectExpr("listing_id", "fold", *kept),
        test=of_new_rows.transform(in_test).selectExpr("listing_id", *kept),
        names={
            "features": FEATURE_NAMES,
            "linear_features": (*FEATURE_NAMES, *BENDS, *one_hot.vocabulary),
        },
        pipeline=PipelineModel([derive, *of_new_rows.stages]),
        distribution=distribution,
    )


def _derive(latest: datetime.date | None) -> SQLTransformer:
    """Cleaned columns to derived ones and words; a request without a date counts as of the latest day."""
    date = f"coalesce(listed_date, DATE'{latest or datetime.date(2020, 9, 14)}')"
    columns = [
        f"{sql.format(date=date)} AS derived_{name}" for name, sql in {**NUMBERS, **FLAGS, **BENDS}.items()
    ]
    encoded = ", ".join(
        f"lower(concat('{name}:', {', '.join(_part(part.format(date=date)) for part in parts)}))"
        for name, parts in {**ENCODED, **BANDS}.items()
    )
    one_hot = ", ".join(f"lower(concat('{name}:', {_part(part)}))" for name, part in ONE_HOT.items())
    return SQLTransformer(
        statement=f"SELECT *, {', '.join(columns)}, array({encoded}) AS encoded_words, "  # noqa: S608 (constants)
        f"array({one_hot}) AS one_hot_words FROM __THIS__"
    )


def _bounded_and_imputed(derived: DataFrame) -> tuple[SQLTransformer, ImputerModel]:
    """Numbers kept near those of most rows, and medians for missing ones.

    Winsorised, as a line has to go past a number far from all others, and the trees on what it leaves pay for
    that elsewhere (Tukey, "The future of data analysis", 1962). A column that is missing in all rows is 0.
    """
    names = (*NUMBERS, *BENDS)
    found = derived.agg(
        *(
            sf.expr(f"struct(avg(derived_{name}) AS mean, stddev_pop(derived_{name}) AS deviation)").alias(
                name
            )
            for name in names
        )
    ).first()
    assert found is not None  # noqa: S101 (an aggregate without groups has one row)
    bound = SQLTransformer(
        statement="SELECT *, "  # noqa: S608 (own names and numbers)
        + ", ".join(f"{_bounded(f'derived_{name}', *found[name])} AS bounded_{name}" for name in names)
        + " FROM __THIS__"
    )
    absent = {f"bounded_{name}": sf.lit(0.0) for name in names if found[name].mean is None}
    impute = Imputer(
        inputCols=[f"bounded_{name}" for name in names],
        outputCols=[f"known_{name}" for name in names],
        strategy="median",
    ).fit(bound.transform(derived).withColumns(absent))
    return bound, impute


def _bounded(column: str, mean: float | None, deviation: float | None) -> str:
    """SQL; a missing number stays missing, which least and greatest would take for none."""
    if mean is None or not deviation or not math.isfinite(deviation):
        return column
    # Of six digits: the last ones of a sum depend on the order of its rows.
    low, high = (f"{mean + sign * _MOST_DEVIATIONS * deviation:.6g}D" for sign in (-1, 1))
    return f"CASE WHEN {column} < {low} THEN {low} WHEN {column} > {high} THEN {high} ELSE {column} END"


def _part(column: str) -> str:
    return f"coalesce(CAST({column} AS STRING), '?'), '/'"


def _one_hot(derived: DataFrame, rarest: int) -> CountVectorizerModel:
    """One place for each frequent category, in an order that does not depend on that of the rows."""
    frequent = (
        derived.select(sf.explode("one_hot_words").alias("word"))
        .groupBy("word")
        .count()
        .where(sf.col("count") >= rarest)
        .orderBy(sf.desc("count"), "word")
        .collect()
    )
    return CountVectorizerModel.from_vocabulary(
        [row["word"] for row in frequent] or ["?"], "one_hot_words", "one_hot", binary=True
    )


def _latest_day(split: DataFrame, settings: FeatureSettings) -> datetime.date | None:
    """Of the training rows. Raises PipelineError when a part or a fold has too few rows."""
    parts = (
        split.groupBy("split", "fold")
        .agg(sf.count(sf.lit(1)).alias("rows"), sf.max("listed_date").alias("latest"))
        .collect()
    )
    rows = {(part["split"], part["fold"]): part["rows"] for part in parts}
    wanted = [("test", None), *(("train", fold) for fold in range(settings.folds))]
    if min(rows.get(part, 0) for part in wanted) < _FEWEST_ROWS:
        raise PipelineError(
            f"{sum(rows.values())} rows are too few for {settings.folds} folds and a test part of "
            f"{settings.test_fraction:.0%}, each with {_FEWEST_ROWS} rows or more: wait for more batches, "
            "widen the training window or ask for fewer folds."
        )
    days = (part["latest"] for part in parts if part["split"] == "train")
    return max((day for day in days if day is not None), default=None)
