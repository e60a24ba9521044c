import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from supervisor.datatypes import dict_of_key_value_pairs
from supervisor.options import UnhosedConfigParser, expand

from local_platform.errors import PlatformError
from local_platform.supervisor import _variable

TEXTS = st.text(st.sampled_from("ab \"'%\\#;,=[]é"), max_size=20).map(str.strip)


def as_supervisor_reads(line: str) -> dict[str, str]:
    parser = UnhosedConfigParser()
    parser.read_string(f"[program:x]\nenvironment={line}\n")
    read: dict[str, str] = dict_of_key_value_pairs(expand(parser.get("program:x", "environment"), {}, "x"))
    return read


@given(TEXTS)
def test_a_setting_reaches_a_service_as_it_is(value: str) -> None:
    try:
        line = f"{_variable('USEDCARS_A', value)},{_variable('USEDCARS_B', '2')}"
    except PlatformError:
        assume(False)
    assert as_supervisor_reads(line) == {"USEDCARS_A": value, "USEDCARS_B": "2"}


def test_a_list_in_json_is_a_setting() -> None:
    members = '["gradient_boosting", "elastic_net"]'
    line = _variable("USEDCARS_TRAINING_MEMBERS", members)
    assert as_supervisor_reads(line) == {"USEDCARS_TRAINING_MEMBERS": members}


@pytest.mark.parametrize("value", ["both \" and '", "'at the ends'", "a comment ; here"])
def test_what_supervisor_can_not_take_is_refused_with_the_settings_name(value: str) -> None:
    with pytest.raises(PlatformError, match="USEDCARS_A can't be handed"):
        _variable("USEDCARS_A", value)
