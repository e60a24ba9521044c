"""Vehicle identification numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.vin import ALPHABET, is_valid, model_year_codes, with_check_digits

bodies = st.text(ALPHABET, min_size=17, max_size=17)


def checked(text: str) -> str:
    codes = np.frombuffer(text.encode(), np.uint8).reshape(1, 17)
    return with_check_digits(codes).tobytes().decode()


@pytest.mark.parametrize(
    "vin", ["1M8GDM9AXKP042788", "11111111111111111", "ZACNJABB5KPJ92081", "JTHSZ5BC5J5008777"]
)
def test_real_vins_are_valid(vin: str) -> None:
    assert is_valid(vin)


@given(bodies)
def test_a_vin_with_its_check_digit_is_valid(text: str) -> None:
    assert is_valid(checked(text))
    assert checked(text)[:8] + checked(text)[9:] == text[:8] + text[9:]


@given(bodies, st.integers(1, 9), st.integers(0, 16).filter(lambda place: place != 8))
def test_another_digit_anywhere_is_noticed(text: str, step: int, place: int) -> None:
    vin = checked(text[:place] + "0" + text[place + 1 :])
    assert not is_valid(vin[:place] + str(step) + vin[place + 1 :])


@pytest.mark.parametrize(
    "text", ["", "1M8GDM9AXKP04278", "1M8GDM9AXKP042788 ", "1M8GDM9AXKPO42788", "é" * 17]
)
def test_other_texts_are_not(text: str) -> None:
    assert not is_valid(text)


def test_model_years_have_their_letters() -> None:
    assert model_year_codes(np.array([1980, 2000, 2009, 2010, 2020])).tobytes() == b"AY9AL"
