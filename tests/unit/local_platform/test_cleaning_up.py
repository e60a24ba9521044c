from pathlib import Path

import pytest

from local_platform.errors import PlatformError
from local_platform.platform import DATA_FOLDERS, remove_data
from local_platform.settings import PlatformSettings


def made(home: Path, *folders: str) -> PlatformSettings:
    for folder in folders:
        (home / folder).mkdir(parents=True)
        (home / folder / "file").write_text("bytes")
    return PlatformSettings(home=home)


def test_a_folder_that_no_platform_made_is_left_alone_though_it_has_a_run_folder(tmp_path: Path) -> None:
    settings = made(tmp_path, "run", "photos")
    with pytest.raises(PlatformError, match="was not made by this platform"):
        remove_data(settings)
    assert (tmp_path / "run" / "file").is_file()
    assert (tmp_path / "photos" / "file").is_file()


def test_what_others_keep_in_the_home_folder_and_the_jars_stay(tmp_path: Path) -> None:
    settings = made(tmp_path, *DATA_FOLDERS, "jars", "photos")
    (tmp_path / "run" / "supervisord.conf").write_text("")
    remove_data(settings)
    assert {entry.name for entry in tmp_path.iterdir()} == {"jars", "photos"}


def test_a_linked_folder_is_unlinked_and_not_emptied(tmp_path: Path) -> None:
    settings = made(tmp_path / "home", "run")
    elsewhere = made(tmp_path / "elsewhere", "data").home_folder
    (tmp_path / "home" / "run" / "supervisord.conf").write_text("")
    (tmp_path / "home" / "hdfs").symlink_to(elsewhere)
    remove_data(settings)
    assert (elsewhere / "data" / "file").is_file()
    assert not (tmp_path / "home" / "hdfs").is_symlink()
