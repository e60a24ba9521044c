"""The raw listings: CSV files with the 66 columns of the published US used cars data set."""

import csv
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.types import StringType, StructField, StructType

from usedcars_assets.pipeline.errors import BadBatchError, reading

# https://www.kaggle.com/datasets/ananaymital/us-used-cars-dataset, in the order of the file
# fmt: off
RAW_COLUMNS: tuple[str, ...] = (
    "vin", "back_legroom", "bed", "bed_height", "bed_length", "body_type", "cabin", "city",
    "city_fuel_economy", "combine_fuel_economy", "daysonmarket", "dealer_zip", "description",
    "engine_cylinders", "engine_displacement", "engine_type", "exterior_color", "fleet",
    "frame_damaged", "franchise_dealer", "franchise_make", "front_legroom", "fuel_tank_volume",
    "fuel_type", "has_accidents", "height", "highway_fuel_economy", "horsepower", "interior_color",
    "isCab", "is_certified", "is_cpo", "is_new", "is_oemcpo", "latitude", "length", "listed_date",
    "listing_color", "listing_id", "longitude", "main_picture_url", "major_options", "make_name",
    "maximum_seating", "mileage", "model_name", "owner_count", "power", "price", "salvage",
    "savings_amount", "seller_rating", "sp_id", "sp_name", "theft_title", "torque", "transmission",
    "transmission_display", "trimId", "trim_name", "vehicle_damage_category", "wheel_system",
    "wheel_system_display", "wheelbase", "width", "year",
)
# fmt: on
# The text of a row that does not have 66 fields; null for the others.
MALFORMED_ROW = "malformed_row"
_SCHEMA = StructType([StructField(name, StringType()) for name in (*RAW_COLUMNS, MALFORMED_ROW)])
_LONGEST_HEADER = 100_000


def read_raw_listings(spark: SparkSession, path: str) -> DataFrame:
    """The rows of a CSV file, or of all CSV files in a folder: 66 string columns and `malformed_row`.

    A row that does not have 66 fields keeps its text in `malformed_row`. Quoted fields may hold line breaks,
    so one file is read by one task, once for each action: `clean_listings` reads it a single time.
    Raises BadBatchError when there is no CSV file or a file's first line is not the published header.
    """
    with reading("The batch", path, vanished=BadBatchError):
        files = _csv_files(spark, path)
        for file in files:
            _check_header(file, _first_line(spark, file))
        return (
            spark.read.schema(_SCHEMA)
            .option("header", True)
            .option("quote", '"')
            .option("escape", '"')
            .option("multiLine", True)
            .option("encoding", "UTF-8")
            .option("mode", "PERMISSIVE")
            .option("columnNameOfCorruptRecord", MALFORMED_ROW)
            # Pruning would hide rows that have too few or too many fields.
            .option("columnPruning", False)
            .csv(files)
        )


def not_utf8_lines(spark: SparkSession, files: list[str]) -> DataFrame:
    """The lines of these files that are not UTF-8, told from a replacement character written as such."""
    return spark.read.text(files).where(~sf.is_valid_utf8("value")).select(sf.input_file_name().alias("file"))


def _csv_files(spark: SparkSession, path: str) -> list[str]:
    jvm: Any = spark.sparkContext._jvm
    root = jvm.org.apache.hadoop.fs.Path(path)
    file_system = root.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration())
    if not file_system.exists(root):
        raise BadBatchError(f"There is no batch at {path}: upload it again, then run this step again.")
    statuses = [status for status in file_system.listStatus(root) if status.isFile()]
    names = [
        status.getPath().toString()
        for status in statuses
        if status.getPath().getName().lower().endswith(".csv")
        and not status.getPath().getName().startswith((".", "_"))
    ]
    if not names:
        raise BadBatchError(
            f"The batch at {path} has no CSV file: upload it again with at least one .csv file."
        )
    return sorted(names)


def _first_line(spark: SparkSession, file: str) -> str:
    """The first line of a file, without reading more of it than a header may have."""
    jvm: Any = spark.sparkContext._jvm
    path = jvm.org.apache.hadoop.fs.Path(file)
    stream = path.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration()).open(path)
    try:
        read = bytes(
            jvm.org.apache.commons.io.IOUtils.toByteArray(
                jvm.org.apache.commons.io.input.BoundedInputStream(stream, _LONGEST_HEADER)
            )
        )
    finally:
        stream.close()
    return read.split(b"\n", 1)[0].decode("utf-8", errors="replace").removeprefix("\ufeff").rstrip("\r")


def _check_header(file: str, line: str) -> None:
    if not line.strip():
        raise BadBatchError(f"The file {file} is empty: upload the batch again with its header and rows.")
    header = next(csv.reader([line]), [])
    missing = [name for name in RAW_COLUMNS if name not in header]
    extra = [name[:60] for name in header if name not in RAW_COLUMNS]
    remedy = "upload the batch again with the 66 columns of the published file, in its order"
    if len(missing) == len(RAW_COLUMNS):
        raise BadBatchError(
            f"The file {file} begins not with the header of raw listings but with {line[:60]!r}: {remedy}."
        )
    if missing or extra:
        raise BadBatchError(
            f"The header of {file} is not that of raw listings (missing: {', '.join(missing) or 'none'}; "
            f"not known: {', '.join(extra[:20]) or 'none'}): {remedy}."
        )
    if tuple(header) != RAW_COLUMNS:
        raise BadBatchError(f"The header of {file} repeats columns or has another order: {remedy}.")
