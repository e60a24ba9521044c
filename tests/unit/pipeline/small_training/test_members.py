import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import xgboost
from pyspark import InheritableThread
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from sklearn.linear_model import ElasticNet
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from usedcars_assets.pipeline.boosted_folds import best_rounds, boost_folds
from usedcars_assets.pipeline.errors import PipelineError
from usedcars_assets.pipeline.evaluation import evaluate
from usedcars_assets.pipeline.features import FEATURE_NAMES
from usedcars_assets.pipeline.lines_by_fold import ridge
from usedcars_assets.pipeline.members import MEMBERS
from usedcars_assets.pipeline.members.elastic_net import elastic_net
from usedcars_assets.pipeline.members.training import MemberResult, train_member
from usedcars_assets.pipeline.monotone import monotone_constraints
from usedcars_assets.pipeline.smearing import smearing_estimates


def rows_of(table: DataFrame) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in table.collect())


def test_each_member_predicts_every_training_row_once_and_learns(training: Any) -> None:
    ids = {row.listing_id for row in training.train.select("listing_id").collect()}
    for name, result in training.members.items():
        found = result.out_of_fold.collect()
        assert len(found) == len(ids)
        assert {row.listing_id for row in found} == ids
        assert result.out_of_fold.columns == [
            "listing_id",
            "fold",
            "price",
            "log_price",
            f"prediction_{name}",
            f"in_sample_{name}",
        ]
        assert result.test_predictions.count() == training.test.count()
        assert [metrics.rows for metrics in result.fold_metrics] == [
            row["count"] for row in training.train.groupBy("fold").count().orderBy("fold").collect()
        ]
        assert result.test_metrics.r2 > 0.6, name
        assert result.cv_mean["r2"] > 0.6, name
        assert len(result.fold_seconds) == 3
        assert all(training > 0 and validation > 0 for training, validation in result.fold_seconds)
    boosting = training.members["gradient_boosting"]
    assert boosting.train_metrics.rmse < boosting.cv_mean["rmse"], "it has seen these rows"


@pytest.mark.parametrize("name", ["elastic_net", "gradient_boosting", "residual_boosting", "support_vector"])
def test_a_fold_is_predicted_by_a_model_that_never_saw_its_prices(training: Any, name: str) -> None:
    """Prices of one fold ten times higher: a model that had seen them would follow."""
    dearer = training.train.withColumn(
        "log_price", sf.col("log_price") + sf.when(sf.col("fold") == 1, 2.3).otherwise(0.0)
    )
    before = training.members[name]
    parameters = dict(before.parameters)
    if before.trees:
        # Dearer prices would stop it at another number of trees; here all trees do good.
        others = [[unseen for _, unseen in curve] for fold, curve in enumerate(before.curves) if fold != 1]
        assert best_rounds(others) == parameters["n_estimators"]
        parameters["early_stopping"] = False
    with train_member(name, dearer, training.test, parameters, seed=20) as changed:
        after = {row.listing_id: row[f"prediction_{name}"] for row in changed.out_of_fold.collect()}
    for row in before.out_of_fold.where("fold = 1").collect():
        assert after[row.listing_id] == pytest.approx(row[f"prediction_{name}"], abs=1e-9)


def test_boosting_has_no_more_trees_than_do_the_rows_not_seen_good(training: Any) -> None:
    greedy = {"n_estimators": 30, "max_depth": 9, "learning_rate": 0.9, "min_child_weight": 0.0}
    greedy |= {"subsample": 1.0, "colsample_bytree": 1.0}
    with train_member("gradient_boosting", training.train, training.test, greedy, seed=20) as stopped:
        curves = [[unseen for _, unseen in curve] for curve in stopped.curves]
        seen = [[seen for seen, _ in curve] for curve in stopped.curves]
        assert [len(curve) for curve in curves] == [30, 30, 30]
        assert all(curve[-1] < 1.01 * min(curve) for curve in seen), "the rows seen know no end"
        assert stopped.trees == best_rounds(curves) < 30
        found = stopped.out_of_fold.groupBy("fold").agg(
            sf.sqrt(sf.avg((sf.col("log_price") - sf.col("prediction_gradient_boosting")) ** 2)).alias("rmse")
        )
        for row in found.collect():
            trees = best_rounds([curve for fold, curve in enumerate(curves) if fold != row.fold])
            assert row.rmse == pytest.approx(curves[row.fold][trees - 1], rel=0.02)


def test_trees_have_no_more_leaves_than_asked_for_however_deep_they_may_be(spark: SparkSession) -> None:
    table = [(f"{n:03}", n / 40, 2.0 ** (n / 40), n % 2) for n in range(400)]
    rows = VectorAssembler(inputCols=["a"], outputCol="x").transform(
        spark.createDataFrame(table, ["listing_id", "a", "log_price", "fold"])
    )
    own = {"n_estimators": 4, "max_leaves": 6, "colsample_bytree": 1.0}
    parameters = {**MEMBERS["gradient_boosting"].defaults, **own}
    boosted = boost_folds(rows, "x", (0, 1), parameters, seed=20)
    trees = json.loads(boosted.booster)["learner"]["gradient_booster"]["model"]["trees"]
    assert [tree["left_children"].count(-1) for tree in trees] == [6] * 4


def test_a_boosting_task_does_not_pay_for_scikit_learn() -> None:
    code = (
        "import sys; from usedcars_assets.pipeline import boosted_folds; boosted_folds._import_xgboost();"
        "assert 'xgboost' in sys.modules and 'sklearn' not in sys.modules; import sklearn.base"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_best_number_of_trees_is_that_of_all_folds_together() -> None:
    assert best_rounds([[3.0, 2.0, 1.0, 4.0], [3.0, 1.0, 2.5, 2.5]]) == 2
    assert best_rounds([[1.0, 2.0], [1.0, 2.0]]) == 1


def test_trees_boosted_by_two_tasks_together_are_as_good_as_those_of_one(training: Any) -> None:
    alone = training.members["residual_boosting"]
    parameters = {**alone.parameters, "num_workers": 2}
    with train_member("residual_boosting", training.train, training.test, parameters, seed=20) as together:
        assert together.out_of_fold.count() == training.train.count()
        assert together.test_metrics.rmse == pytest.approx(alone.test_metrics.rmse, rel=0.1)
        assert together.cv_mean["rmse"] == pytest.approx(alone.cv_mean["rmse"], rel=0.1)


def test_a_ridge_finds_the_line_and_leaves_out_what_never_varies() -> None:
    chance = np.random.default_rng(5)
    features = np.column_stack((chance.normal(2_000, 3, 400), chance.normal(size=400), np.full(400, 7.0)))
    target = 3 + 0.02 * features[:, 0] - 1.5 * features[:, 1]
    table = np.column_stack((np.ones(400), features, target))
    line = ridge(table.T @ table)
    assert line.coefficients == pytest.approx([0.02, -1.5, 0], rel=1e-3)
    assert features @ line.coefficients + line.intercept == pytest.approx(target, abs=1e-2)


def test_an_elastic_net_solved_from_sums_is_that_of_the_rows() -> None:
    """Also where a column is the sum of others, and another never varies."""
    chance = np.random.default_rng(6)
    few = chance.normal(50, 5, (400, 3))
    features = np.column_stack((few, few.sum(axis=1), chance.normal(size=400), np.full(400, 7.0)))
    target = 3 + 0.1 * features[:, 0] - 0.05 * features[:, 3] + chance.normal(0, 0.1, 400)
    table = np.column_stack((np.ones(400), features, target))
    parameters = {"regularization": 0.03, "l1_share": 0.5, "max_iterations": 10_000}
    line = elastic_net(table.T @ table, parameters)
    of_rows = make_pipeline(StandardScaler(), ElasticNet(alpha=0.03, l1_ratio=0.5)).fit(features, target)
    assert features @ line.coefficients + line.intercept == pytest.approx(of_rows.predict(features), abs=1e-3)
    assert line.coefficients[-2:] == pytest.approx([0, 0], abs=1e-12), "which say nothing of the target"


def test_the_same_rows_and_seed_give_the_same_predictions_in_any_order(training: Any) -> None:
    shuffled = training.train.orderBy(sf.rand(5)).repartition(3)
    parameters = {"n_estimators": 20, "max_depth": 4, "learning_rate": 0.3}
    with train_member("gradient_boosting", shuffled, training.test, parameters, seed=20) as again:
        assert rows_of(again.out_of_fold) == rows_of(training.members["gradient_boosting"].out_of_fold)
        assert again.test_metrics == training.members["gradient_boosting"].test_metrics


def test_a_forest_can_join_the_members(training: Any) -> None:
    with train_member(
        "random_forest", training.train, training.test, {"trees": 4, "max_depth": 5}, 1
    ) as forest:
        assert forest.test_metrics.r2 > 0.5
        assert forest.parameters["trees"] == 4
        assert forest.parameters["max_bins"] == 64


def test_members_trained_at_once_in_one_session_are_those_trained_alone(training: Any) -> None:
    results: dict[str, MemberResult] = {}

    def train(name: str) -> None:
        parameters = {**training.members[name].parameters}
        results[name] = train_member(name, training.train, training.test, parameters, seed=20)

    threads = [InheritableThread(target=train, args=(name,)) for name in training.members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert set(results) == set(training.members)
    for name, result in results.items():
        with result:
            alone = training.members[name]
            assert result.cv_mean == pytest.approx(alone.cv_mean, rel=1e-9)
            assert result.test_metrics.rmse == pytest.approx(alone.test_metrics.rmse, rel=1e-9)


def test_support_vector_regression_finds_a_line_and_ignores_outliers(spark: SparkSession) -> None:
    chance = np.random.default_rng(3)
    inputs = chance.normal(size=(500, 2))
    target = 10 + 2 * inputs[:, 0] - inputs[:, 1] + chance.normal(0, 0.02, 500)
    target[:20] += 5
    table = [
        (f"{place}", place % 2, *map(float, x), 0.1, float(y))
        for place, (x, y) in enumerate(zip(inputs, target, strict=True))
    ]
    rows = VectorAssembler(inputCols=["a", "b", "never varies"], outputCol="x").transform(
        spark.createDataFrame(table, ["listing_id", "fold", "a", "b", "never varies", "log_price"])
    )
    member = MEMBERS["support_vector"]
    parameters = {**member.defaults, "regularization": 1e-4}
    model = member.cross_validate(rows, "x", "p", parameters, 0, (0, 1)).model
    assert [*model.coefficients.toArray(), model.intercept] == pytest.approx([2, -1, 0, 10], abs=0.05)


def test_residual_boosting_carries_its_line_beyond_the_rows_seen(spark: SparkSession) -> None:
    """Trees alone answer there with the price of the last row that they know."""
    chance = np.random.default_rng(4)
    slope, step = chance.uniform(0, 10, 400), chance.integers(0, 2, 400)
    table = [
        (f"{place:03}", float(x), float(z), float(8 + 0.3 * x + (x > 5) * z))
        for place, (x, z) in enumerate(zip(slope, step, strict=True))
    ]
    assemble = VectorAssembler(inputCols=["a", "b"], outputCol="x")
    rows = assemble.transform(spark.createDataFrame(table, ["listing_id", "a", "b", "log_price"]))
    rows = rows.withColumn("fold", sf.col("listing_id").cast("int") % 2)
    beyond = assemble.transform(spark.createDataFrame([(20.0, 0.0), (30.0, 0.0)], ["a", "b"]))
    rises = {}
    for name in ("residual_boosting", "gradient_boosting"):
        member = MEMBERS[name]
        parameters = {**member.defaults, "n_estimators": 40, "min_child_weight": 1.0}
        model = member.cross_validate(rows, "x", "p", parameters, 0, (0, 1)).model
        found = [row.p for row in model.transform(beyond).orderBy("a").collect()]
        is_on_a_line = name == "residual_boosting"
        trained = boost_folds(rows, "x", (0, 1), parameters, 0, on_a_line=is_on_a_line)
        inputs = np.array([[20.0, 0.0], [30.0, 0.0]])
        as_trained = xgboost.Booster(model_file=bytearray(trained.booster)).predict(xgboost.DMatrix(inputs))
        if trained.line is not None:
            as_trained = as_trained + inputs @ trained.line.coefficients + trained.line.intercept
        assert found == pytest.approx(as_trained, abs=1e-5)
        rises[name] = found[1] - found[0]
    assert rises["gradient_boosting"] == 0
    assert rises["residual_boosting"] > 2


@pytest.mark.parametrize("name", ["residual_boosting", "elastic_net", "support_vector"])
def test_a_member_with_a_line_says_that_none_runs_through_a_missing_number(
    spark: SparkSession, name: str
) -> None:
    table = [(f"{n}", float("nan") if n == 7 else float(n), 9.0 + n, n % 2) for n in range(20)]
    rows = VectorAssembler(inputCols=["a"], outputCol="x", handleInvalid="keep").transform(
        spark.createDataFrame(table, ["listing_id", "a", "log_price", "fold"])
    )
    member = MEMBERS[name]
    with pytest.raises(PipelineError, match=r"The column x has values that are no finite numbers"):
        member.cross_validate(rows, "x", "p", member.defaults, 0, (0, 1))


def test_an_unknown_parameter_is_refused_with_the_known_ones(training: Any) -> None:
    with pytest.raises(
        PipelineError, match=r"elastic_net has no parameter depth: use l1_share, max_iterations"
    ):
        train_member("elastic_net", training.train, training.test, {"depth": 3}, seed=1)
    assert set(MEMBERS) == {
        *("gradient_boosting", "residual_boosting", "support_vector", "elastic_net", "random_forest")
    }


def test_smearing_brings_the_mean_price_back_and_withstands_wrong_listings(spark: SparkSession) -> None:
    rows = spark.range(20_000).select(
        (sf.lit(10.0) + sf.randn(4) * 0.4).alias("log_price"), sf.lit(10.0).alias("prediction")
    )
    (factor,) = smearing_estimates(rows, {"p": sf.col("prediction")}).values()
    assert factor == pytest.approx(np.exp(0.4**2 / 2), rel=0.02)
    priced = rows.select(
        sf.exp("log_price").alias("price"), (sf.exp("prediction") * factor).alias("prediction")
    )
    means = priced.agg(sf.avg("price"), sf.avg("prediction")).collect()[0]
    assert means[0] == pytest.approx(means[1], rel=0.02)
    assert evaluate(priced).rows == 20_000
    wrong = rows.limit(100).withColumn("log_price", sf.lit(18.0)).union(rows)
    assert smearing_estimates(wrong, {"p": sf.col("prediction")})["p"] == pytest.approx(factor, rel=0.02)


def test_at_equal_other_features_the_boosted_price_does_not_rise_with_mileage_or_age(
    training: Any, spark: SparkSession
) -> None:
    constraints = dict(zip(FEATURE_NAMES, monotone_constraints(training.train, "features"), strict=True))
    signs = {name: sign for name, sign in constraints.items() if sign}
    assert signs == {"age_years": -1, "log_miles": -1, "log_miles_per_year": -1, "model_year": 1}
    cars = [row.features.toArray() for row in training.train.select("features").limit(50).collect()]
    changed = []
    for car in cars:
        for name in signs:
            place = FEATURE_NAMES.index(name)
            for value in sorted({other[place] for other in cars}):
                changed.append(np.concatenate((car[:place], [value], car[place + 1 :])))
    table = spark.createDataFrame(
        [(n, Vectors.dense(car)) for n, car in enumerate(changed)], ["n", "features"]
    )

    def against_the_trade(member: MemberResult) -> float:
        """The largest step of log price in the wrong direction."""
        rows = member.model.transform(table).orderBy("n").select("prediction_gradient_boosting").collect()
        prices, start, worst = [row[0] for row in rows], 0, 0.0
        for _ in cars:
            for name, sign in signs.items():
                values = len({other[FEATURE_NAMES.index(name)] for other in cars})
                steps = sign * np.diff(prices[start : start + values])
                worst, start = max(worst, -float(steps.min())), start + values
        return worst

    constrained = training.members["gradient_boosting"]
    assert against_the_trade(constrained) < 1e-9
    parameters = {**constrained.parameters, "monotone": False}
    with train_member("gradient_boosting", training.train, training.test, parameters, seed=20) as free:
        assert against_the_trade(free) > 0.001
