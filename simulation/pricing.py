"""What a listing is priced at, in logarithms of dollars.

The numbers come from a regression within equal configurations on a sample of the published file, see
docs/simulation.md.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Value kept by age of a used car (years 0, 1, 2, ...), at equal mileage, against a new one of the same kind.
_AGES: Final = np.array([-2, 0, 1, 2, 3, 4, 6, 10, 15, 25, 35, 60], dtype=float)
_AGE_EFFECTS: Final = np.array(
    [0.05, -0.02, -0.06, -0.085, -0.125, -0.2, -0.4, -0.75, -1.05, -1.3, -1.1, -0.6]
)
_PER_10K_MILES: Final = -0.037
_NEW_AGAINST_LIST: Final = 0.0
# How fast cars of a body lose value, against the average of 1; makes: catalogue/makes.csv.
BODY_DEPRECIATION: Final = {
    "Pickup Truck": 0.75,
    "Sedan": 1.08,
    "Minivan": 1.15,
    "Convertible": 0.9,
    "Coupe": 0.9,
}
_ACCIDENT: Final = -0.05
_FRAME_DAMAGE: Final = -0.11
_SALVAGE: Final = -0.28
_FLEET: Final = -0.025
_OWNER: Final = -0.015
_MONTH_ON_MARKET: Final = -0.008
_MODEL_YEAR: Final = 0.045
_CERTIFIED: Final = 0.025
# Of the share by which a listing is cheaper than the market, as the publisher reckons it.
_SAVING: Final = -0.4
_OPTION: Final = 0.007
_NOISE_NEW: Final = 0.035
_NOISE_USED: Final = 0.055


def log_prices(
    rng: np.random.Generator,
    *,
    list_price: Floats,
    is_new: NDArray[np.bool_],
    year: NDArray[np.int64],
    mileage: Floats,
    depreciation: Floats,
    options: NDArray[np.int64],
    dealer: Floats,
    owners: NDArray[np.int64],
    accidents: NDArray[np.bool_],
    frame_damaged: NDArray[np.bool_],
    salvage: NDArray[np.bool_],
    fleet: NDArray[np.bool_],
    certified: NDArray[np.bool_],
    days_on_market: Floats,
    colour: Floats,
    saving: Floats,
) -> Floats:
    """Logarithmic prices of listings; one entry a listing, prices in dollars, mileage in miles."""
    age_effect = np.interp(2020.0 - year, _AGES, _AGE_EFFECTS)
    # The first miles cost most; from about 150,000 on they hardly matter.
    mileage_effect = _PER_10K_MILES * 15 * np.tanh(mileage / 150_000)
    used = depreciation * (age_effect + mileage_effect) + _OWNER * (owners - 1) + _CERTIFIED * certified
    used = used + _ACCIDENT * accidents + _FRAME_DAMAGE * frame_damaged + _SALVAGE * salvage + _FLEET * fleet
    new = _MODEL_YEAR * (year - 2020.0)
    noise = rng.standard_normal(len(year)) * np.where(is_new, _NOISE_NEW, _NOISE_USED)
    common = _SAVING * saving + (
        _NEW_AGAINST_LIST
        + _OPTION * (options - 6)
        + dealer
        + colour
        + _MONTH_ON_MARKET * np.minimum(days_on_market / 30, 6)
    )
    result: Floats = np.log(list_price) + np.where(is_new, new, used) + common + noise
    return result
