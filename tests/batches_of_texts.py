"""How property tests draw texts that Spark reads: many at once, as each query costs a tenth of a second."""

from hypothesis import HealthCheck, settings

few_batches = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)
