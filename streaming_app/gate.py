"""The gate before a query of serving: closed, its requests wait; open, those from an offset on pass.

So the query of a successor can run, with its code compiled, while the former one answers: what is left to do
once that has stopped is to say from where on (docs/decisions/034).
"""

from collections.abc import Mapping, Sequence
from uuid import uuid4

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.types import BooleanType

from streaming_app.java_classes import called_anew, java_classes


class Gate:
    """Of one query; `name` is the query's."""

    def __init__(self, spark: SparkSession, partitions: Sequence[int]) -> None:
        self.name = f"usedcars-serving-{uuid4().hex[:12]}"
        self._in_jvm = java_classes(spark).Gate
        self._partitions = tuple(partitions)

    def before(self, requests: DataFrame) -> DataFrame:
        """The requests (columns partition and offset) that pass."""
        asked = (sf.lit(self.name), sf.col("partition"), sf.col("offset"))
        return requests.where(
            called_anew(requests.sparkSession, "usedcars.Gate", "passes", BooleanType(), asked)
        )

    def answered(self, next_offsets: Mapping[int, int]) -> None:
        """Drop the requests before these offsets, which others have answered, while the gate is closed."""
        for partition in self._partitions:
            self._in_jvm.answered(self.name, partition, next_offsets[partition])

    def open(self, first_offsets: Mapping[int, int]) -> None:
        """Let the requests of each partition pass from this offset on; of an open gate nothing changes."""
        for partition, offset in first_offsets.items():
            self._in_jvm.open(self.name, partition, offset)

    def reached(self) -> bool:
        """Whether in each partition a request waits, or has waited."""
        return all(self._in_jvm.reached(self.name, partition) for partition in self._partitions)

    def close(self) -> None:
        """Let no further request pass, for good: for a query that is to be stopped."""
        for partition in self._partitions:
            self._in_jvm.close(self.name, partition)
