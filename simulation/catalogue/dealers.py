"""Dealers: where they are, which make's franchise they hold, how dear they are.

The same dealers in every data set: they are drawn once from a fixed seed, not from the data set's.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulation.catalogue.vehicles import load_catalogue

_SEED: Final = 20_200_914
_INDEPENDENT_DEALERS: Final = 1600
_FRANCHISE_DEALERS: Final = 2600
# Price level of a state against the others (logarithmic), regressed on the real sample of seven states.
_STATE_PRICES: Final = {
    "FL": -0.019,
    "CA": 0.024,
    "PA": 0.0125,
    "OH": -0.008,
    "AK": 0.04,
    "HI": 0.05,
    "PR": 0.06,
}
_INDEPENDENT_NAMES: Final = {
    "{surname} Auto Sales": 0.25,
    "{city} Motors": 0.2,
    "{surname} & Sons Auto": 0.15,
    "Autos of {city}": 0.15,
    "{surname} Pre-Owned, Inc.": 0.12,
    "{city} Car Outlet": 0.11,
    "private seller": 0.02,
}
_FRANCHISE_NAMES: Final = (
    "{surname} {make}",
    "{make} of {city}",
    "{city} {make}",
    "{surname} {make} of {city}",
    "{surname} Auto Group {make}",
)


@dataclass(frozen=True)
class Dealers:
    """Columns of the dealers, sorted by franchise; the independent ones last.

    `starts[m]:starts[m + 1]` are the dealers of `makes[m]`; `price` is the logarithm of a dealer's level of
    prices, `rating` goes from 1 to 5; `franchise` is empty for an independent dealer.
    """

    makes: Sequence[str]
    starts: NDArray[np.int64]
    franchise: Sequence[str]
    name: Sequence[str]
    city: Sequence[str]
    state: Sequence[str]
    zip_code: Sequence[str]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    rating: NDArray[np.float64]
    price: NDArray[np.float64]


def _lines(name: str) -> list[str]:
    return files("simulation.catalogue").joinpath(name).read_text(encoding="utf-8").splitlines()


@cache
def load_dealers() -> Dealers:
    """The dealers of the outside world."""
    rng = np.random.default_rng(_SEED)
    places = list(csv.DictReader(_lines("places.csv")))
    shares: dict[str, float] = {}
    for model in load_catalogue().models:
        shares[model.make] = shares.get(model.make, 0.0) + model.new_weight + 0.2 * model.used_weight
    makes = sorted(shares)
    counts = [max(4, round(_FRANCHISE_DEALERS * shares[make] / sum(shares.values()))) for make in makes]
    franchise = [make for make, count in zip(makes, counts, strict=True) for _ in range(count)]
    franchise += [""] * _INDEPENDENT_DEALERS
    total = len(franchise)
    weights = np.array([float(place["weight"]) for place in places])
    where = [places[index] for index in rng.choice(len(places), total, p=weights / weights.sum())]
    surnames = rng.choice(_lines("surnames.txt"), total)
    patterns = [
        rng.choice(_FRANCHISE_NAMES)
        if make
        else rng.choice(list(_INDEPENDENT_NAMES), p=list(_INDEPENDENT_NAMES.values()))
        for make in franchise
    ]
    names = [
        str(pattern).format(surname=surname, make=make, city=place["city"])
        for pattern, surname, make, place in zip(patterns, surnames, franchise, where, strict=True)
    ]
    state_prices = np.array([_STATE_PRICES.get(place["state"], 0.0) for place in where])
    independent = np.array([not make for make in franchise])
    return Dealers(
        makes=makes,
        starts=np.concatenate([[0], np.cumsum(counts)]),
        franchise=franchise,
        name=names,
        city=[place["city"] for place in where],
        state=[place["state"] for place in where],
        zip_code=[str(rng.choice(place["zips"].split())) for place in where],
        latitude=np.array([float(place["latitude"]) for place in where]) + rng.normal(0, 0.02, total),
        longitude=np.array([float(place["longitude"]) for place in where]) + rng.normal(0, 0.02, total),
        rating=np.clip(rng.normal(4.25, 0.5, total), 1, 5),
        price=state_prices + rng.normal(0, 0.022, total) - 0.03 * independent,
    )
