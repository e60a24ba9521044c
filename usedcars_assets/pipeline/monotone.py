"""What the trade knows of a price: at equal other features it does not rise with age or mileage.

Constraints of the splits of a tree keep it so also where rows are few (XGBoost, "Monotonic constraints",
https://xgboost.readthedocs.io/en/stable/tutorials/monotonic.html).
"""

from pyspark.sql import DataFrame

# By the names that VectorAssembler leaves in the metadata of a vector: the sign of the price's change.
_DIRECTIONS = {
    "known_age_years": -1,
    "known_log_miles": -1,
    "known_log_miles_per_year": -1,
    "derived_model_year": 1,
}


def monotone_constraints(rows: DataFrame, features: str) -> tuple[int, ...]:
    """For each place of the vector 1, -1, or 0 for none; empty where the vector does not name its places."""
    attributes = rows.schema[features].metadata.get("ml_attr", {})
    named = [each for group in attributes.get("attrs", {}).values() for each in group]
    directions = {each["idx"]: _DIRECTIONS.get(each.get("name", ""), 0) for each in named}
    return tuple(directions.get(place, 0) for place in range(attributes.get("num_attrs", 0)))
