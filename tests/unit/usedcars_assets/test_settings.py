"""Settings by environment variables, and what is said of wrong ones."""

import pytest
from dagster import Config
from pydantic import Field, ValidationError

from usedcars_assets.settings import WrongSettingError, defaults_from_environment


class Choices(Config):
    """What a run may choose."""

    folds: int = Field(default=5, ge=2, le=20, description="Folds.")
    members: list[str] = Field(default=["one"], description="Names.")


def test_an_operator_sets_the_default_of_a_runs_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USEDCARS_TRAINING_FOLDS", "7")
    monkeypatch.setenv("USEDCARS_TRAINING_MEMBERS", '["two", "three"]')
    configured = defaults_from_environment("training")(Choices)
    assert configured().model_dump() == {"folds": 7, "members": ["two", "three"]}
    shown = configured.to_config_schema().as_field().config_type.fields["folds"]  # type: ignore[attr-defined]
    assert (shown.default_value, shown.description) == (7, "Folds.")
    assert configured(folds=3).folds == 3
    with pytest.raises(ValidationError):
        configured(folds=99)


def test_without_a_variable_the_default_is_that_of_the_code() -> None:
    assert defaults_from_environment("training")(Choices)().model_dump() == Choices().model_dump()


def test_a_wrong_variable_is_named_with_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USEDCARS_TRAINING_FOLDS", "99")
    with pytest.raises(WrongSettingError, match=r"USEDCARS_TRAINING_FOLDS: .* equal to 20: set it"):
        defaults_from_environment("training")(Choices)
