import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_platform import jars
from local_platform.errors import PlatformError
from local_platform.jars import JAR_SETS, Jar, fetch_jars, ivy_jar, locked_jars, parse_lock

names = st.from_regex(r"[a-z][a-z0-9._-]{0,20}", fullmatch=True)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.lists(st.tuples(names, names, names, digests), max_size=8))
def test_a_lock_is_read_as_it_was_written(rows: list[tuple[str, str, str, str]]) -> None:
    text = "# locked\n\n" + "".join(f"{g}:{a}:{v} sha256:{digest}\n" for g, a, v, digest in rows)
    assert parse_lock(text) == tuple(Jar(*row) for row in rows)


def test_a_damaged_lock_is_refused_with_the_line_and_the_remedy() -> None:
    with pytest.raises(PlatformError, match=r"line 2 .*restore the file"):
        parse_lock("# fine\na:b sha256:12\n")


@pytest.mark.parametrize("jar_set", JAR_SETS)
def test_every_set_is_locked_without_two_versions_of_a_jar(jar_set: str) -> None:
    artifacts = [(jar.group, jar.artifact) for jar in locked_jars(jar_set)]
    assert artifacts
    assert len(set(artifacts)) == len(artifacts)


def test_a_jar_with_other_bytes_is_not_intact(tmp_path: Path) -> None:
    jar = Jar("group", "artifact", "1", "0" * 64)
    assert not jar.is_intact(tmp_path)
    (tmp_path / jar.file_name).write_bytes(b"half a jar")
    assert not jar.is_intact(tmp_path)


def test_ivy_comes_with_pyspark() -> None:
    assert ivy_jar().is_file()


class Repository:
    """A jar repository of two tiny jars that can answer rubbish, and remembers as Ivy's cache does."""

    good = (b"first jar", b"second jar")

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers_rubbish = False
        locks = folder / "locks"
        locks.mkdir()
        self.contents = {f"jar{number}": content for number, content in enumerate(self.good)}
        (locks / "small.lock").write_text(
            "".join(
                f"group:{name}:1 sha256:{hashlib.sha256(content).hexdigest()}\n"
                for name, content in self.contents.items()
            )
        )
        monkeypatch.setattr(jars, "LOCKS", locks)
        monkeypatch.setattr(jars, "_retrieve", self.retrieve)

    def retrieve(self, wanted: Sequence[Jar], work: Path, target: Path, java: str) -> None:
        for jar in wanted:
            cached = work / "cache" / jar.file_name
            cached.parent.mkdir(parents=True, exist_ok=True)
            if not cached.exists():
                cached.write_bytes(b"rubbish" if self.answers_rubbish else self.contents[jar.artifact])
            (target / jar.group).mkdir(parents=True, exist_ok=True)
            (target / jar.group / jar.file_name).write_bytes(cached.read_bytes())


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    return Repository(tmp_path, monkeypatch)


def test_a_mirror_that_answered_rubbish_once_is_asked_again(repository: Repository, tmp_path: Path) -> None:
    repository.answers_rubbish = True
    with pytest.raises(PlatformError, match="arrived with another checksum"):
        fetch_jars(tmp_path / "jars", "java", ["small"])
    repository.answers_rubbish = False
    assert fetch_jars(tmp_path / "jars", "java", ["small"]) == 2
    assert fetch_jars(tmp_path / "jars", "java", ["small"]) == 0


def test_a_jar_that_was_deleted_is_fetched_again(repository: Repository, tmp_path: Path) -> None:
    fetch_jars(tmp_path / "jars", "java", ["small"])
    (tmp_path / "jars" / "small" / "jar1-1.jar").unlink()
    assert fetch_jars(tmp_path / "jars", "java", ["small"]) == 1


def test_two_that_fetch_at_once_wait_for_each_other(repository: Repository, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as together:
        fetched = list(together.map(lambda _: fetch_jars(tmp_path / "jars", "java", ["small"]), range(4)))
    assert sorted(fetched) == [0, 0, 0, 2]
