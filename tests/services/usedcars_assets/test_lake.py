"""What the lake promises of small files."""

from typing import Any

import pytest

from tests.services.usedcars_assets.conftest import once_hdfs_is_back
from usedcars_assets.resources.lake import Lake

pytestmark = pytest.mark.services


def test_after_a_restart_of_the_namenode_no_error_is_taken_for_the_content_of_a_file(
    platform: Any, lake: Lake
) -> None:
    lake.write_json("record.json", {"rows": 7})
    with platform.without("namenode"):
        pass
    read = once_hdfs_is_back(lake.read_json)
    assert [read("record.json") for _ in range(5)] == 5 * [{"rows": 7}]
