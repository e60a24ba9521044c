"""What a price depends on: by how much the errors grow when a group of columns is shuffled over the rows.

It asks the artefact itself, so it counts what all members and the stack make of a column. Columns that tell
the same are shuffled together: one alone would be read off the others.
Source: Breiman, Random Forests, Machine Learning 45 (2001), section 10, https://doi.org/10.1023/A:1010933404324
"""

from collections.abc import Mapping

from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.artefact import score_listings
from usedcars_assets.pipeline.cleaning import listing_json
from usedcars_assets.pipeline.evaluation import Metrics, metrics_by_slice

NOTHING = "nothing"
GROUPS: Mapping[str, tuple[str, ...]] = {
    NOTHING: (),
    "make, model and trim": ("make_name", "model_name", "trim_name"),
    "year": ("year",),
    "mileage": ("mileage_miles",),
    "engine": (
        *("horsepower", "power_hp", "power_rpm", "torque_lb_ft", "torque_rpm"),
        *("engine_displacement_cc", "engine_type"),
    ),
    "fuel and its economy": ("fuel_type", "city_mpg", "highway_mpg", "fuel_tank_gal"),
    "gearbox and wheels": ("transmission", "transmission_display", "wheel_system"),
    "body and size": (
        *("body_type", "cabin", "length_in", "width_in", "height_in", "wheelbase_in", "bed_length_in"),
        *("front_legroom_in", "back_legroom_in", "seats"),
    ),
    "options": ("major_options",),
    "color": ("color",),
    "history": (
        *("has_accidents", "has_frame_damage", "has_salvage_title", "has_theft_title"),
        *("owner_count", "is_fleet", "is_cab"),
    ),
    "new or certified": ("is_new", "is_cpo", "is_oemcpo"),
    "dealer": ("dealer_id", "franchise_make", "is_franchise_dealer", "seller_rating"),
    "place": ("city", "dealer_zip", "latitude", "longitude"),
    "time": ("listed_date", "days_on_market"),
}
MOST_ROWS = 1_000


def permutation_importance(artefact: PipelineModel, rows: DataFrame) -> dict[str, Metrics]:
    """The errors of the artefact with each of GROUPS shuffled, and with NOTHING, in one Spark job.

    rows: cleaned test rows; MOST_ROWS of them are taken, always the same ones. Each row gets the columns of
    the next one in an order that has nothing to do with what is in them. A row that no car can be then, newer
    than its listing for instance, is rejected by the artefact and does not count.
    """
    columns = sorted({column for group in GROUPS.values() for column in group})
    by_chance = sf.xxhash64("listing_id"), sf.col("listing_id")
    group_of = {column: name for name, group in GROUPS.items() for column in group}
    in_order = Window.orderBy(*by_chance)
    of_row = sf.struct(*columns)
    shuffled = (
        rows.orderBy(*by_chance)
        .limit(MOST_ROWS)
        # Behind the last row comes the first.
        .withColumn("next", sf.coalesce(sf.lead(of_row).over(in_order), sf.first(of_row).over(in_order)))
        .withColumn("shuffled", sf.explode(sf.array(*map(sf.lit, GROUPS))))
        # What was ordered is in one partition; scoring is the work, and for all cores.
        .repartition(rows.sparkSession.sparkContext.defaultParallelism)
        .select(
            "price_usd",
            "shuffled",
            sf.concat_ws("/", "listing_id", "shuffled").alias("listing_id"),
            *(
                sf.when(sf.col("shuffled") == group_of[column], sf.col(f"next.{column}"))
                .otherwise(sf.col(column))
                .alias(column)
                for column in columns
            ),
        )
        .withColumn("listing", listing_json())
    )
    scored = score_listings(artefact, shuffled.select("listing_id", "shuffled", "price_usd", "listing"))
    priced = scored.where("price IS NOT NULL").select(
        "shuffled", sf.col("price_usd").alias("price"), sf.col("price").alias("prediction")
    )
    return {str(group): errors for group, errors in metrics_by_slice(priced, "shuffled").items()}
