"""Independent queries of one step at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyspark import inheritable_thread_target
from pyspark.sql import SparkSession

_AT_ONCE = 2


def queries_at_once(spark: SparkSession, *queries: Callable[[], Any]) -> list[Any]:
    """What each query gives, in their order; the first error of any is raised once all have ended.

    While one waits for its plan, another's rows keep the cores busy. Each runs in a thread with a copy of
    this one's properties, its pool and job group among them.
    """
    own = inheritable_thread_target(spark)  # wrapped one by one, as each needs a copy
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        running = [threads.submit(own(query)) for query in queries]
        return [query.result() for query in running]
