from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_platform.errors import PlatformError
from local_platform.jars import JAR_SETS, Jar, ivy_jar, locked_jars, parse_lock

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
