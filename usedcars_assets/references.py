"""What assets hand to each other: small records of what lies where in the lake, stored as JSON.

The tables and models themselves are Parquet and Spark ML folders; a record is written after what it names
is complete. Any asset can so be materialised alone, later, or in another process.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter

from usedcars_assets.ingestion.claims import BatchVersion


class _Reference(BaseModel, frozen=True):
    pass


class ColumnFacts(_Reference):
    """A cleaned column: its type, rows without a value, smallest and largest number."""

    type: str
    nulls: int
    minimum: float | None = None
    maximum: float | None = None


class CleanedBatch(_Reference):
    """A cleaned batch."""

    kind: Literal["cleaned_batch"] = "cleaned_batch"
    version: BatchVersion
    arrived_at: float  # seconds since the epoch
    cleaned_path: str
    rejected_path: str
    duplicates_path: str
    read: int
    cleaned: int
    rejected: int
    duplicates: int
    rejected_by_reason: Mapping[str, int]
    columns: Mapping[str, ColumnFacts]
    sample: tuple[Mapping[str, str], ...]
    rejected_sample: tuple[Mapping[str, str], ...]
    seconds: float


class Training(_Reference):
    """One training: what it learns from, and the settings that its stages share."""

    training_id: str
    mlflow_run_id: str
    batches: tuple[BatchVersion, ...]
    left_out: tuple[BatchVersion, ...]  # cleaned, but before the training window
    members: tuple[str, ...]
    folds: int
    seed: int
    cleaned_rows: int
    data_version: str  # digest over batches

    @property
    def path(self) -> str:
        """Its folder in the lake."""
        return f"trainings/{self.training_id}"


class FeatureTable(_Reference):
    """The train or the test rows, as features."""

    kind: Literal["feature_table"] = "feature_table"
    training: Training
    path: str
    rows: int
    sample: tuple[Mapping[str, str], ...] = ()
    layout: str = ""  # digest of how the features are made
    features: Mapping[str, tuple[str, ...]] = {}  # by vector: what stands where in it
    seconds: float


class FittedFeatures(_Reference):
    """The stages from a raw listing to features, fitted on the training rows."""

    kind: Literal["fitted_features"] = "fitted_features"
    training: Training
    path: str
    split_path: str  # the cleaned rows with split and fold
    settings: Mapping[str, float | int | str]
    seconds: float = 0


MetricValues = Mapping[str, float]


class TunedMember(_Reference):
    """What a search found for a member: the best parameters, and how good they are.

    Errors are RMSE of log price over the folds, of the best and of those that it began with.
    """

    parameters: Mapping[str, float | int | str]
    error: float
    error_before: float
    trials: int
    pruned: int
    mlflow_run_id: str


class TunedParameters(_Reference):
    """The best parameters that were found, by member; the next trainings begin with them."""

    kind: Literal["tuned_parameters"] = "tuned_parameters"
    training_id: str  # whose training rows it was searched on
    rows: int
    members: Mapping[str, TunedMember]


class TrainedMember(_Reference):
    """A base model, or the word that this training goes without it."""

    kind: Literal["trained_member"] = "trained_member"
    training: Training
    name: str
    trained: bool
    path: str = ""  # with model, out_of_fold and test_predictions below
    mlflow_run_id: str = ""
    parameters: Mapping[str, float | int | str] = {}
    test: MetricValues = {}
    cv_mean: MetricValues = {}
    training_seconds: float = 0
    validation_seconds: float = 0
    # Of boosted trees: what a later training needs to know to go on from this one.
    code: str = ""
    layout: str = ""  # of its features
    train_rows: int = 0
    rows_anew: int = 0  # of the training that began with the first tree
    trees: int = 0
    boosters: str = ""  # where they are stored; none of others
    warm_start: str = ""  # the boosters of the former training that this one went on from


class StackedModel(_Reference):
    """The artefact from a raw listing to a price."""

    kind: Literal["stacked_model"] = "stacked_model"
    training: Training
    path: str  # with artefact and test_predictions below
    split_path: str
    mlflow_run_id: str
    weights: Mapping[str, float]
    test: MetricValues
    best_member: str
    best_member_test: MetricValues
    # By the share of true prices that shall be inside: that of the test rows, median width / price.
    interval_coverage: Mapping[float, float] = {}
    interval_width: Mapping[float, float] = {}
    input_example: str  # a listing as JSON
    gates: Mapping[str, float]  # what it must reach to be registered


class RegisteredVersion(_Reference):
    """A registered version of the model."""

    kind: Literal["registered_version"] = "registered_version"
    training: Training
    name: str
    version: str
    input_example: str


class TrainingExport(_Reference):
    """The rows that a version was trained on, and all that is needed to train it again."""

    kind: Literal["training_export"] = "training_export"
    training: Training
    version: str
    path: str
    rows: int
    feature_settings: Mapping[str, float | int | str]
    parameters: Mapping[str, Mapping[str, float | int | str]]  # by member
    warm_starts: Mapping[str, str] = {}  # by member: the boosters of a former training that it went on from
    test: Mapping[str, MetricValues]  # by member and of the stack


class ModelCard(_Reference):
    """What is known of a version, for people; an artefact of its training's MLflow run."""

    kind: Literal["model_card"] = "model_card"
    version: str
    mlflow_run_id: str


class StageTimeline(_Reference):
    """Where the time of a version's training went; artefacts of its MLflow run."""

    kind: Literal["stage_timeline"] = "stage_timeline"
    version: str
    mlflow_run_id: str


class Rollout(_Reference):
    """A version in service."""

    kind: Literal["rollout"] = "rollout"
    version: str
    previous: str | None
    seconds_to_first_answer: float


Reference = Annotated[
    CleanedBatch
    | FeatureTable
    | FittedFeatures
    | TrainedMember
    | StackedModel
    | RegisteredVersion
    | TrainingExport
    | TunedParameters
    | ModelCard
    | StageTimeline
    | Rollout,
    Field(discriminator="kind"),
]
REFERENCE: TypeAdapter[Reference] = TypeAdapter(Reference)
