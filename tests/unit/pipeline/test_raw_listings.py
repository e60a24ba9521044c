from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from usedcars_assets.pipeline.errors import BadBatchError
from usedcars_assets.pipeline.raw_listings import MALFORMED_ROW, RAW_COLUMNS, read_raw_listings


def test_quotes_commas_and_line_breaks_in_a_field_are_kept(
    spark: SparkSession, raw_row: Callable[..., dict[str, str]], write_csv: Callable[..., str]
) -> None:
    text = 'He said "as new",\nthen left\n\nfor good'
    raw = read_raw_listings(spark, write_csv([raw_row(description=text), raw_row(vin="2")]))
    assert raw.columns == [*RAW_COLUMNS, MALFORMED_ROW]
    first, second = raw.collect()
    assert first.description == text
    assert (first.year, second.vin, second.year) == ("2019", "2", "2019")


def test_rows_with_too_few_or_too_many_fields_keep_their_text(
    spark: SparkSession, raw_row: Callable[..., dict[str, str]], write_csv: Callable[..., str]
) -> None:
    more = b"a,b,c\n" + b",".join([b"x"] * 70) + b"\n"
    rows = read_raw_listings(spark, write_csv([raw_row()], more=more)).collect()
    assert [row[MALFORMED_ROW] for row in rows] == [None, "a,b,c", ",".join(["x"] * 70)]


def test_all_csv_files_of_a_batch_are_read_and_other_files_are_not(
    spark: SparkSession, raw_row: Callable[..., dict[str, str]], write_csv: Callable[..., str]
) -> None:
    batch = write_csv([raw_row(vin="1")])
    folder = Path(batch.removeprefix("file://"))
    (folder / "more.csv").write_bytes((folder / "listings.csv").read_bytes())
    (folder / "_SUCCESS").touch()
    (folder / ".hidden.csv").write_text("nothing")
    (folder / "notes.txt").write_text("nothing")
    assert read_raw_listings(spark, batch).count() == 2


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(
    spark: SparkSession, raw_row: Callable[..., dict[str, str]], write_csv: Callable[..., str]
) -> None:
    batch = write_csv([raw_row()])
    file = Path(batch.removeprefix("file://")) / "listings.csv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    (row,) = read_raw_listings(spark, batch).collect()
    assert (row.vin, row.year, row[MALFORMED_ROW]) == ("1XXAA00000000001", "2019", None)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ([name for name in RAW_COLUMNS if name != "price"], r"missing: price; not known: none"),
        ([*RAW_COLUMNS, "colour", "doors"], r"missing: none; not known: colour, doors"),
        (["prize" if name == "price" else name for name in RAW_COLUMNS], r"missing: price; not known: prize"),
        ([*RAW_COLUMNS[1:], RAW_COLUMNS[0]], r"another order"),
        (["PK\x03\x04 no table"], r"begins not with the header"),
    ],
)
def test_a_wrong_header_is_refused_with_the_columns_at_fault(
    spark: SparkSession, write_csv: Callable[..., str], header: list[str], said: str
) -> None:
    with pytest.raises(BadBatchError, match=said):
        read_raw_listings(spark, write_csv([], header=header))


def test_a_batch_that_is_not_there_has_no_csv_or_is_empty_is_refused(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(BadBatchError, match="There is no batch at"):
        read_raw_listings(spark, (tmp_path / "nowhere").as_uri())
    with pytest.raises(BadBatchError, match="no CSV file"):
        read_raw_listings(spark, tmp_path.as_uri())
    (tmp_path / "empty.csv").touch()
    with pytest.raises(BadBatchError, match="is empty"):
        read_raw_listings(spark, tmp_path.as_uri())
