"""Each failure is one sentence with its remedy, and only what may heal by itself is tried again."""

import pytest
from dagster import Failure
from kafka.errors import KafkaTimeoutError
from mlflow.exceptions import MlflowException
from py4j.protocol import Py4JError

from usedcars_assets.failures import UnavailableError, clear_failures, explain
from usedcars_assets.pipeline.errors import BadBatchError, LakeUnavailableError


@pytest.mark.parametrize(
    ("error", "begins", "may_heal"),
    [
        (BadBatchError("The batch has no rows: upload it again."), "The batch has no rows", False),
        (LakeUnavailableError("The file system does not answer: start it."), "The file system", True),
        (UnavailableError("HDFS does not answer: start it."), "HDFS does not answer", True),
        (MlflowException("API request failed: Max retries exceeded"), "MLflow does not answer", True),
        (MlflowException("Name must not be empty"), "MLflow refused", False),
        (KafkaTimeoutError("Unable to bootstrap"), "Kafka does not answer", True),
        (Py4JError("java.net.ConnectException: Connection refused"), "HDFS does not answer", True),
        (Py4JError("org.apache.spark.SparkException: Job aborted"), "Spark failed", False),
        (ConnectionRefusedError(111, "Connection refused"), "A service does not answer", True),
        (ValueError("no such thing"), "Training a model failed (ValueError: no such thing)", False),
    ],
)
def test_an_error_becomes_a_sentence(error: Exception, begins: str, may_heal: bool) -> None:
    with pytest.raises(Failure) as caught, clear_failures("training a model"):
        raise error
    assert str(caught.value.description).startswith(begins)
    assert "\n" not in str(caught.value.description)
    assert caught.value.allow_retries is may_heal
    assert caught.value.__cause__ is error


def test_of_a_java_error_the_last_cause_is_told() -> None:
    text = "An error occurred\n: SparkException: Job aborted\nCaused by: java.io.IOException: disk full\n"
    assert "java.io.IOException: disk full" in explain(Py4JError(text), "writing")[0]


def test_a_failure_that_is_clear_already_passes_as_it_is() -> None:
    failure = Failure("There is no batch.")
    with pytest.raises(Failure) as caught, clear_failures("cleaning"):
        raise failure
    assert caught.value is failure
