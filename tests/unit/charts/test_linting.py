import pytest

from tests.unit.charts.rendering import INSTALLATIONS, KUBERNETES, OWN, SIZES, run_helm


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("release", OWN)
def test_helm_finds_nothing_wrong(release: str, size: str) -> None:
    installation = INSTALLATIONS[release]
    files = [argument for file in installation.values(size) for argument in ("--values", str(file))]
    outcome = run_helm("lint", "--strict", "--quiet", *KUBERNETES, str(installation.chart_folder()), *files)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "WARNING" not in outcome.stdout
