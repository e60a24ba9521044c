"""What the commands say when something is missing, and what they ask for."""

import socket
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulation.asking import Conversation, Question, read_questions
from simulation.cli import app
from simulation.errors import SimulationError
from simulation.lake import open_lake, upload_batch
from simulation.report import summarise
from simulation.settings import SimulationSettings


@pytest.fixture
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> str:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("USEDCARS_WEBHDFS_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("USEDCARS_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{port}")
    monkeypatch.setenv("USEDCARS_CONNECTION_ATTEMPTS", "2")
    monkeypatch.setenv("USEDCARS_CONNECTION_TIMEOUT", "1")
    return f"127.0.0.1:{port}"


def error_line(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    return line


def test_hdfs_that_is_down_is_told_in_one_sentence(nobody_listens: str, generated: Path) -> None:
    line = error_line("upload", str(generated), "--batch", "monday")
    assert line.startswith(f"Error: HDFS does not answer at http://{nobody_listens}: start it")


def test_a_command_run_within_a_program_leaves_its_logging_usable(
    nobody_listens: str, generated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error_line("upload", str(generated), "--batch", "monday")
    with pytest.raises(SimulationError, match="HDFS does not answer"):
        upload_batch(open_lake(SimulationSettings()), generated, "monday")
    assert "trying again" in capsys.readouterr().err


def test_kafka_that_is_down_is_told_in_one_sentence(nobody_listens: str, generated: Path) -> None:
    line = error_line("ask", str(generated), "--limit", "1")
    assert line.startswith(f"Error: Kafka does not answer at {nobody_listens}")


@pytest.mark.parametrize("name", ["", ".hidden", "_x", "a/b", "a b", "..", "x" * 101])
def test_names_that_are_no_batch_are_refused_before_anything_is_sent(
    nobody_listens: str, generated: Path, name: str
) -> None:
    with pytest.raises(SimulationError, match="no name of a batch"):
        upload_batch(open_lake(SimulationSettings()), generated, name)


def test_a_wrong_address_of_hdfs_is_told(generated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USEDCARS_WEBHDFS_URL", "hdfs://127.0.0.1:9820")
    assert "USEDCARS_WEBHDFS_URL" in error_line("upload", str(generated), "--batch", "monday")


def test_a_wrong_setting_is_named(generated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USEDCARS_CONNECTION_ATTEMPTS", "many")
    assert "USEDCARS_CONNECTION_ATTEMPTS" in error_line("upload", str(generated), "--batch", "monday")


def test_a_folder_without_batches_cannot_be_dropped(tmp_path: Path) -> None:
    assert "no batch-*.csv" in error_line("drop", str(tmp_path))


def test_generate_and_split_from_the_command_line(tmp_path: Path) -> None:
    raw, parts = str(tmp_path / "new" / "raw.csv"), str(tmp_path / "parts")
    made = CliRunner().invoke(app, ["generate", "--rows", "500", "--seed", "2", "--output", raw])
    assert made.exit_code == 0, made.output
    cut = CliRunner().invoke(
        app, ["split", raw, "--output", parts, "--batches", "2", "--test-fraction", "0.2"]
    )
    assert cut.exit_code == 0, cut.output
    assert len(list(Path(parts).iterdir())) == 3


def test_questions_carry_the_raw_listing_without_what_tells_its_price(generated: Path) -> None:
    questions = read_questions(generated, 50)
    assert len({question.request_id for question in questions}) == len(questions) == 50
    for question in questions:
        assert len(question.listing) == 64
        assert not {"price", "savings_amount"} & question.listing.keys()
        assert "" not in question.listing.values()


def test_a_file_without_listings_is_told(tmp_path: Path) -> None:
    for text, told in (
        ("", "no file of raw listings"),
        ("a,b\n1,2\n", "no column vin"),
        ("vin\n", "no listings"),
    ):
        (tmp_path / "raw.csv").write_text(text)
        with pytest.raises(SimulationError, match=told):
            read_questions(tmp_path / "raw.csv", 5)


def priced_at(price: float) -> dict[str, object]:
    return {"type": "price", "price": price, "price_low": None, "price_high": None}


def test_the_summary_counts_every_question_once() -> None:
    priced = [
        Question("a", {}, 100.0, 1.0, {**priced_at(110.0), "price_low": 90.0, "price_high": 120.0}, 1.1, 1),
        Question("b", {}, 200.0, 1.0, {**priced_at(150.0), "price_low": 140.0, "price_high": 160.0}, 1.3, 2),
        Question("c", {}, None, 1.0, priced_at(5.0), 1.2, 1),
    ]
    rejected = [Question("d", {}, 1.0, 1.0, {"type": "rejection", "reason": "missing_year"}, 1.2, 1)]
    summary = summarise(Conversation([*priced, *rejected, Question("e", {}, 1.0, 1.0)]))
    assert (summary["asked"], summary["priced"], summary["unanswered"], summary["answered_twice"]) == (
        5,
        3,
        1,
        1,
    )
    assert summary["rejected"] == {"missing_year": 1}
    assert summary["mae"] == pytest.approx(30)
    assert summary["mape"] == pytest.approx(0.175)
    assert summary["inside_interval"] == 0.5
    assert summary["latency_median_seconds"] == pytest.approx(0.2)
    assert summary["latency_p99_seconds"] == pytest.approx(0.3)


def test_a_summary_of_no_answers_tells_nothing() -> None:
    summary = summarise(Conversation([Question("a", {}, 1.0, 1.0)]))
    assert (summary["mae"], summary["latency_p99_seconds"], summary["unanswered"]) == (None, None, 1)
    assert summary["inside_interval"] is None
