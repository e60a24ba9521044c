"""The parameters of the base models, as a run's configuration shows them.

The defaults repeat those of the pipeline, which this module does not import: loading the code location must
not load Spark and XGBoost. A test holds the two together. An operator changes them for all trainings by
variables such as USEDCARS_GRADIENT_BOOSTING_MAX_LEAVES.
"""

from dagster import Config
from pydantic import Field

from usedcars_assets.settings import defaults_from_environment


class _BoostedTreesConfig(Config):
    """XGBoost; each tree makes serving slower, so choose by error and scoring speed together."""

    n_estimators: int = Field(
        default=80, ge=1, le=5000, description="Number of trees; the most with early stopping."
    )
    early_stopping: bool = Field(
        default=True, description="Fewer trees where more do no good to the rows of the folds not seen."
    )
    max_leaves: int = Field(default=64, ge=2, le=4096, description="Leaves of a tree, the best split first.")
    max_depth: int = Field(default=12, ge=1, le=16, description="Depth of a tree.")
    learning_rate: float = Field(default=0.18, gt=0, le=1, description="Weight of each further tree.")
    subsample: float = Field(default=0.9, gt=0, le=1, description="Part of the rows that a tree sees.")
    colsample_bytree: float = Field(default=0.5, gt=0, le=1, description="Part of the features a tree sees.")
    min_child_weight: float = Field(default=3.0, ge=0, description="Least weight of the rows in a leaf.")
    reg_lambda: float = Field(default=2.0, ge=0, description="L2 penalty on leaf values.")
    max_bin: int = Field(default=256, ge=2, le=1024, description="Bins of a feature.")
    num_workers: int = Field(default=1, ge=1, description="Spark tasks that train together.")
    warm_start_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Part of the rows that may be new to the trees of the former training for it to go on "
        "from these; 0: always anew.",
    )
    tuned: bool = Field(
        default=True, description="What stands at its default here is as the last search found it best."
    )


@defaults_from_environment("gradient_boosting")
class GradientBoostingConfig(_BoostedTreesConfig):
    """Boosted trees of the log price."""

    monotone: bool = Field(
        default=True, description="At equal other features a price does not rise with age or mileage."
    )


@defaults_from_environment("residual_boosting")
class ResidualBoostingConfig(_BoostedTreesConfig):
    """Boosted trees of what a linear model leaves of the log price."""


@defaults_from_environment("elastic_net")
class ElasticNetConfig(Config):
    """Linear regression with L1 and L2 penalties."""

    regularization: float = Field(default=1e-4, ge=0, description="Weight of the penalties.")
    l1_share: float = Field(default=0.5, ge=0, le=1, description="Share of the L1 penalty.")
    max_iterations: int = Field(default=10_000, ge=1, description="Most iterations of the solver.")


@defaults_from_environment("support_vector")
class SupportVectorConfig(Config):
    """Linear support vector regression."""

    epsilon: float = Field(default=0.05, gt=0, description="Half width of the tube, in log price.")
    regularization: float = Field(default=2e-2, gt=0, description="Weight of the L2 penalty.")
    max_iterations: int = Field(default=200, ge=1, description="Most iterations of the solver.")
    tolerance: float = Field(default=1e-2, gt=0, description="Change at which the solver stops.")
    most_rows: int = Field(default=20_000, ge=100, description="More rows are thinned out to these.")


@defaults_from_environment("random_forest")
class RandomForestConfig(Config):
    """Spark's random forest."""

    trees: int = Field(default=30, ge=1, le=1000, description="Number of trees.")
    max_depth: int = Field(default=10, ge=1, le=30, description="Depth of a tree.")
    max_bins: int = Field(default=64, ge=2, description="Bins of a feature.")
    subsample: float = Field(default=0.8, gt=0, le=1, description="Part of the rows that a tree sees.")
    feature_share: float = Field(default=0.4, gt=0, le=1, description="Part of the features a split sees.")
