"""The raw columns that both notebooks learn from, in a file that imports neither's libraries."""

WITH_UNIT = [
    "back_legroom",
    "front_legroom",
    "fuel_tank_volume",
    "height",
    "length",
    "wheelbase",
    "width",
    "maximum_seating",
]
NUMBERS = [
    *WITH_UNIT,
    "city_fuel_economy",
    "daysonmarket",
    "engine_displacement",
    "highway_fuel_economy",
    "horsepower",
    "latitude",
    "longitude",
    "mileage",
    "owner_count",
    "seller_rating",
    "year",
]
CATEGORIES = [
    "body_type",
    "engine_type",
    "franchise_dealer",
    "fuel_type",
    "is_new",
    "listing_color",
    "make_name",
    "model_name",
    "transmission",
    "wheel_system",
]
