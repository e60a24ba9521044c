import pytest
from pydantic import ValidationError

from local_platform.settings import LONGEST_SOCKET_PATH, PlatformSettings


def test_every_setting_is_read_from_its_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USEDCARS_KAFKA_PORT", "19092")
    monkeypatch.setenv("USEDCARS_KAFKA_HEAP_MB", "300")
    settings = PlatformSettings()
    assert settings.address("kafka") == "127.0.0.1:19092"
    assert settings.kafka_heap_mb == 300


def test_an_offset_moves_every_port() -> None:
    moved = PlatformSettings(port_offset=7000)
    assert moved.url("mlflow") == "http://127.0.0.1:12000"
    assert moved.service_environment()["USEDCARS_LAKE_URI"] == "hdfs://127.0.0.1:16820/usedcars"


def test_two_services_on_one_port_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"dagster_port and mlflow_port are both 5000"):
        PlatformSettings(dagster_port=5000)


def test_a_port_that_the_offset_moves_out_of_range_is_refused() -> None:
    with pytest.raises(ValidationError, match="USEDCARS_PORT_OFFSET"):
        PlatformSettings(port_offset=50_000, kafka_port=20_000)


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in PlatformSettings.model_fields.items() if not field.description] == []


def test_the_socket_moves_to_a_short_folder_when_the_home_folder_is_deep() -> None:
    deep = PlatformSettings(home=f"/{'deep/' * 40}home")
    assert len(str(deep.supervisor_socket)) <= LONGEST_SOCKET_PATH
    other = PlatformSettings(home=f"/{'deep/' * 40}other")
    assert deep.supervisor_socket != other.supervisor_socket


def test_the_services_reach_this_machine_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    assert PlatformSettings().service_environment()["NO_PROXY"] == "intranet.example,127.0.0.1,localhost"


def test_a_home_folder_that_the_process_manager_cannot_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="without a percent sign"):
        PlatformSettings(home="/data/100%")


def test_a_room_s_own_settings_reach_its_services_but_no_password_is_written_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("USEDCARS_TRAINING_FOLDS", "7")
    monkeypatch.setenv("USEDCARS_KAFKA_PASSWORD", "secret")
    monkeypatch.setenv("USEDCARS_KAFKA_CA", "several\nlines")
    monkeypatch.setenv("USEDCARS_LAKE_URI", "hdfs://elsewhere/usedcars")  # the platform's own to say
    found = PlatformSettings().environment_of_rooms()
    assert found["USEDCARS_TRAINING_FOLDS"] == "7"
    assert not {"USEDCARS_KAFKA_PASSWORD", "USEDCARS_KAFKA_CA", "USEDCARS_LAKE_URI"} & found.keys()
