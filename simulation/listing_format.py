"""The published listing file: its 66 columns in order, and how a field is written in CSV.

Source: https://www.kaggle.com/datasets/ananaymital/us-used-cars-dataset
"""

from typing import Final

COLUMNS: Final[tuple[str, ...]] = (
    "vin",
    "back_legroom",
    "bed",
    "bed_height",
    "bed_length",
    "body_type",
    "cabin",
    "city",
    "city_fuel_economy",
    "combine_fuel_economy",
    "daysonmarket",
    "dealer_zip",
    "description",
    "engine_cylinders",
    "engine_displacement",
    "engine_type",
    "exterior_color",
    "fleet",
    "frame_damaged",
    "franchise_dealer",
    "franchise_make",
    "front_legroom",
    "fuel_tank_volume",
    "fuel_type",
    "has_accidents",
    "height",
    "highway_fuel_economy",
    "horsepower",
    "interior_color",
    "isCab",
    "is_certified",
    "is_cpo",
    "is_new",
    "is_oemcpo",
    "latitude",
    "length",
    "listed_date",
    "listing_color",
    "listing_id",
    "longitude",
    "main_picture_url",
    "major_options",
    "make_name",
    "maximum_seating",
    "mileage",
    "model_name",
    "owner_count",
    "power",
    "price",
    "salvage",
    "savings_amount",
    "seller_rating",
    "sp_id",
    "sp_name",
    "theft_title",
    "torque",
    "transmission",
    "transmission_display",
    "trimId",
    "trim_name",
    "vehicle_damage_category",
    "wheel_system",
    "wheel_system_display",
    "wheelbase",
    "width",
    "year",
)
HEADER: Final[str] = ",".join(COLUMNS) + "\n"

# Columns that a car's price must not be guessed from: the price, and what was computed from it.
PRICE_COLUMNS: Final[frozenset[str]] = frozenset({"price", "savings_amount"})


def escaped(text: str) -> str:
    """The inside of a quoted CSV field: quotes doubled (RFC 4180)."""
    return text.replace('"', '""')


def csv_field(text: str) -> str:
    """One CSV field, quoted where it must be."""
    return f'"{escaped(text)}"' if any(sign in text for sign in ',"\n\r') else text
