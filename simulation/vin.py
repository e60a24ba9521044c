"""Vehicle identification numbers, column-wise.

Form and check digit: 49 CFR 565.15 (17 characters without I, O and Q; the ninth is the check digit).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

ALPHABET: Final = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"
MODEL_YEARS: Final = "ABCDEFGHJKLMNPRSTVWXY123456789"  # 1980 is A, 2009 is 9, 2010 is A again
_WEIGHTS: Final = np.array([8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2])
_LETTER_VALUES: Final = dict(
    zip("ABCDEFGHJKLMNPRSTUVWXYZ", [*range(1, 9), *range(1, 6), 7, 9, *range(2, 10)], strict=True)
)
_VALUES: Final = np.array(
    [int(chr(code)) if chr(code).isdigit() else _LETTER_VALUES.get(chr(code), 0) for code in range(128)]
)
_CHECK_DIGITS: Final = np.frombuffer(b"0123456789X", np.uint8)
_LENGTH: Final = 17


def with_check_digits(characters: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The ASCII codes (rows by 17) with the ninth character set to the check digit."""
    checked = characters.copy()
    checked[:, 8] = _CHECK_DIGITS[(_VALUES[characters] * _WEIGHTS).sum(axis=1) % 11]
    return checked


def is_valid(vin: str) -> bool:
    """Whether the text has a VIN's form and the right check digit."""
    if len(vin) != _LENGTH or any(sign not in ALPHABET for sign in vin):
        return False
    codes = np.frombuffer(vin.encode("ascii"), np.uint8).reshape(1, _LENGTH)
    return bool((with_check_digits(codes) == codes).all())


def model_year_codes(years: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The tenth character of each model year, as ASCII codes."""
    return np.frombuffer(MODEL_YEARS.encode("ascii"), np.uint8)[(years - 1980) % len(MODEL_YEARS)]
