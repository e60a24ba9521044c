"""XGBoost's trees as Spark's: a boosted ensemble that any Spark scores, in the JVM and without xgboost."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.ml.regression import GBTRegressionModel
from pyspark.sql import SparkSession

from usedcars_assets.pipeline.errors import PipelineError
from usedcars_assets.pipeline.jvm_stage import JvmStage
from usedcars_assets.pipeline.saved_models import load_from_tables

_LEAF = -1
_SUMS_OF_LEAVES = ("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror")


def spark_trees(
    spark: SparkSession, booster: bytes, *, features: int, features_column: str, prediction_column: str
) -> JvmStage:
    """The regression ensemble in `booster`, XGBoost's own JSON or `save_raw("json")`, as a Spark model.

    features: length of the feature vector. Predictions agree within float32 rounding of the sum, since
    XGBoost adds leaves as float32 and Spark as float64. Raises PipelineError for boosters that have no
    equal in Spark: other objectives than squared error, categorical splits, several outputs, DART.
    """
    learner = json.loads(booster)["learner"]
    kind, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
    if kind != "gbtree":
        raise PipelineError(f"A booster of kind {kind} has no equal in Spark: train with gbtree.")
    if objective not in _SUMS_OF_LEAVES:
        raise PipelineError(
            f"The objective {objective} is not a plain sum of leaves: train with reg:squarederror."
        )
    trees = [
        _leaf_tree(_base_score(learner)),
        *(_tree(tree) for tree in learner["gradient_booster"]["model"]["trees"]),
    ]
    return load_from_tables(
        spark,
        GBTRegressionModel,
        {"featuresCol": features_column, "predictionCol": prediction_column, "impurity": "variance"},
        {
            "data": spark.createDataFrame(_node_table(trees)).coalesce(1),
            "treesMetadata": spark.createDataFrame(_tree_table(spark.version, len(trees))).coalesce(1),
        },
        {"numFeatures": features, "numTrees": len(trees)},
    )


def spark_threshold(threshold: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """XGBoost goes left for float32(x) < t, Spark for x <= threshold in float64.

    The midpoint of t and the float32 before it is where rounding to float32 changes sides. A value exactly
    there rounds to the neighbour with the even mantissa: when that is t itself, the last double before the
    midpoint is the threshold.
    """
    before = np.nextafter(threshold, np.float32(-np.inf))
    middle = (threshold.astype(np.float64) + before.astype(np.float64)) / 2
    return np.where(middle.astype(np.float32) < threshold, middle, np.nextafter(middle, -np.inf))


@dataclass(frozen=True)
class _Tree:
    """Nodes in pre-order, as Spark numbers them."""

    feature: npt.NDArray[np.int32]  # _LEAF in a leaf
    threshold: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    gain: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]


def _tree(tree: dict[str, Any]) -> _Tree:
    if any(tree["split_type"]):
        raise PipelineError(
            "A tree with categorical splits cannot be converted: encode categories as numbers."
        )
    left, right = np.array(tree["left_children"], np.int32), np.array(tree["right_children"], np.int32)
    order = _pre_order(left, right)
    new_id = np.full(len(left), _LEAF, np.int32)
    new_id[order] = np.arange(len(order), dtype=np.int32)
    is_leaf = left[order] == _LEAF
    condition = np.array(tree["split_conditions"], np.float32)[order]
    return _Tree(
        feature=np.where(is_leaf, _LEAF, np.array(tree["split_indices"], np.int32)[order]).astype(np.int32),
        threshold=spark_threshold(condition),
        # A leaf's value stands where other nodes have their threshold.
        value=np.where(is_leaf, condition, np.array(tree["base_weights"], np.float32)[order]).astype(
            np.float64
        ),
        left=np.where(is_leaf, _LEAF, new_id[left[order]]).astype(np.int32),
        right=np.where(is_leaf, _LEAF, new_id[right[order]]).astype(np.int32),
        gain=np.where(is_leaf, -1.0, np.array(tree["loss_changes"], np.float64)[order]),
        weight=np.array(tree["sum_hessian"], np.float64)[order],
    )


def _pre_order(left: npt.NDArray[np.int32], right: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    order, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        order.append(node)
        if left[node] != _LEAF:
            waiting += [int(right[node]), int(left[node])]
    return np.array(order, np.int64)


def _leaf_tree(value: float) -> _Tree:
    leaf, zero = np.array([_LEAF], np.int32), np.zeros(1)
    return _Tree(leaf, zero, np.array([value]), leaf, leaf, np.array([-1.0]), zero)


def _base_score(learner: dict[str, Any]) -> float:
    """A number up to XGBoost 3.0, since then a list with one number for each output."""
    scores = np.atleast_1d(np.array(json.loads(learner["learner_model_param"]["base_score"]), np.float32))
    if len(scores) != 1:
        raise PipelineError(
            f"A booster with {len(scores)} outputs cannot be converted: train for one target."
        )
    return float(scores[0])


def _node_table(trees: list[_Tree]) -> pa.Table:
    def joined(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(tree, name) for tree in trees])

    sizes = [len(tree.feature) for tree in trees]
    feature, weight, value = joined("feature"), joined("weight"), joined("value")
    rows, is_split = len(feature), feature != _LEAF
    three = pa.array(np.arange(0, 3 * rows + 1, 3), pa.int32())
    statistics = np.stack([weight, weight * value, weight * value * value], axis=1).ravel()
    split = pa.StructArray.from_arrays(
        [
            pa.array(feature, pa.int32()),
            pa.ListArray.from_arrays(
                pa.array(np.concatenate([[0], np.cumsum(is_split)]), pa.int32()),
                pa.array(joined("threshold")[is_split], pa.float64()),
            ),
            pa.array(np.full(rows, -1), pa.int32()),
        ],
        ["featureIndex", "leftCategoriesOrThreshold", "numCategories"],
    )
    node = pa.StructArray.from_arrays(
        [
            pa.array(np.concatenate([np.arange(size) for size in sizes]), pa.int32()),
            pa.array(value, pa.float64()),
            pa.array(np.zeros(rows), pa.float64()),
            pa.ListArray.from_arrays(three, pa.array(statistics, pa.float64())),
            pa.array(weight.astype(np.int64), pa.int64()),
            pa.array(joined("gain"), pa.float64()),
            pa.array(joined("left"), pa.int32()),
            pa.array(joined("right"), pa.int32()),
            split,
        ],
        [
            "id",
            "prediction",
            "impurity",
            "impurityStats",
            "rawCount",
            "gain",
            "leftChild",
            "rightChild",
            "split",
        ],
    )
    tree_id = pa.array(np.repeat(np.arange(len(trees)), sizes), pa.int32())
    return pa.table({"treeID": tree_id, "nodeData": node})


def _tree_table(version: str, trees: int) -> pa.Table:
    metadata = {
        "class": "org.apache.spark.ml.regression.DecisionTreeRegressionModel",
        "timestamp": 0,
        "sparkVersion": version,
        "paramMap": {"impurity": "variance"},
        "defaultParamMap": {},
    }
    return pa.table(
        {
            "_1": pa.array(range(trees), pa.int32()),
            "_2": [json.dumps({**metadata, "uid": f"tree_{tree}"}) for tree in range(trees)],
            "_3": pa.array(np.ones(trees), pa.float64()),
        }
    )
