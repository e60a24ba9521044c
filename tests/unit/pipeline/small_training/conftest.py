"""A small training that the tests share: they go to one test process."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession

from usedcars_assets.pipeline.artefact import assemble_artefact
from usedcars_assets.pipeline.cleaning import clean_listings, listing_json
from usedcars_assets.pipeline.features import FeatureSettings, build_features, split_rows
from usedcars_assets.pipeline.members.training import MemberResult, train_member
from usedcars_assets.pipeline.raw_listings import read_raw_listings
from usedcars_assets.pipeline.stacking import StackResult, train_stack
from usedcars_assets.pipeline.tables import load_pipeline, read_table, save_model, write_table
from usedcars_assets.pipeline.training_distribution import TrainingDistribution


@dataclass(frozen=True)
class Training:
    """A training of all members on `market`, each step read back from its files."""

    cleaned: DataFrame
    split: DataFrame
    train: DataFrame
    test: DataFrame
    members: dict[str, MemberResult]
    stack: StackResult
    artefact: PipelineModel
    artefact_path: str
    distribution: TrainingDistribution


# Small, but more than one tree, several folds and all members that are trained by default.
SETTINGS = FeatureSettings(folds=3, test_fraction=0.2, rarest=5)
PARAMETERS: dict[str, dict[str, float | int | str]] = {
    "gradient_boosting": {"n_estimators": 20, "max_depth": 4, "learning_rate": 0.3},
    "residual_boosting": {"n_estimators": 10, "max_depth": 3, "learning_rate": 0.1},
    "support_vector": {},
    "elastic_net": {},
}


@pytest.fixture(scope="session")
def training(
    spark: SparkSession,
    market: list[dict[str, str]],
    write_csv: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Training]:
    lake = tmp_path_factory.mktemp("lake").as_uri()
    with clean_listings(read_raw_listings(spark, write_csv(market))) as batch:
        write_table(batch.cleaned, f"{lake}/cleaned")
    cleaned = read_table(spark, f"{lake}/cleaned")
    write_table(split_rows(cleaned, SETTINGS).withColumn("listing", listing_json()), f"{lake}/split")
    tables = build_features(cleaned, SETTINGS)
    write_table(tables.train, f"{lake}/train")
    write_table(tables.test, f"{lake}/test")
    train, test = read_table(spark, f"{lake}/train"), read_table(spark, f"{lake}/test")
    members = {
        name: train_member(name, train, test, parameters, seed=20) for name, parameters in PARAMETERS.items()
    }
    stack = train_stack(
        {name: member.out_of_fold for name, member in members.items()},
        {name: member.test_predictions for name, member in members.items()},
    )
    models = {name: member.model for name, member in members.items()}
    save_model(assemble_artefact(tables.pipeline, models, stack), f"{lake}/artefact")
    yield Training(
        cleaned=cleaned,
        split=read_table(spark, f"{lake}/split"),
        train=train,
        test=test,
        members=members,
        stack=stack,
        artefact=load_pipeline(f"{lake}/artefact"),
        artefact_path=str(Path(lake.removeprefix("file://")) / "artefact"),
        distribution=tables.distribution,
    )
    for member in members.values():
        member.release()
