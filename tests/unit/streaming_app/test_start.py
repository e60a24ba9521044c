"""What a process loads before it can begin: a restart after a kill waits for it."""

import subprocess
import sys

import pytest

SLOW_TO_IMPORT = ("mlflow", "pandas", "scipy", "matplotlib", "pyspark.ml")


@pytest.mark.parametrize("module", ["serving", "live_metrics"])
def test_a_process_starts_without_what_takes_seconds_to_import(module: str) -> None:
    script = (
        f"import sys, streaming_app.{module}; print(*[n for n in {SLOW_TO_IMPORT!r} if n in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
