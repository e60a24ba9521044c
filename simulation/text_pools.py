"""Ready-made texts that listings are put together from: options, features, colours, sales talk."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEVELS: Final = 10
_SEED: Final = 7_391
_SETS_A_LEVEL: Final = 400
_FEATURE_LISTS: Final = 1500
SALES_TALK: Final = (
    "",
    "CERTIFIED CLEAN CARFAX!!! One owner, immaculate condition. Save yourself time and money with us.",
    'Buy with confidence: every car passes our "172-point" inspection; the history report is free.',
    "Priced below market!\nCall today to schedule your test drive.\nFinancing available, good credit or bad.",
    "Excludes sales tax, registration fees, finance and reconditioning charges (dealer fees may apply).",
    "Odometer is 4,211 miles below market average!\r\n\r\nAwards:\r\n  * 10 Best Cars, Trucks and SUVs",
    "Price HIGHLY negotiable.\nNo accident. Small scratch on the tail bumper.\nTest drive anytime!",
    'Recent arrival. $0 down available. Not responsible for typos; $500 deposit, "no questions asked".',
    "Come and visit our store, or see all of our vehicles online. We deliver anywhere in the 48 states.",
)


@dataclass(frozen=True)
class TextPools:
    """What to take texts from.

    `options` are lists as Python prints them, in `LEVELS` blocks of equal size from bare cars to full ones,
    with their lengths; `features` are joined by commas; colours come with their share, their effect on the
    price (logarithmic) and the names that makers give them.
    """

    options: tuple[str, ...]
    option_counts: NDArray[np.int64]
    features: tuple[str, ...]
    interiors: tuple[str, ...]
    colours: tuple[str, ...]
    colour_shares: NDArray[np.float64]
    colour_prices: NDArray[np.float64]
    shades: tuple[tuple[str, ...], ...]


def _lines(name: str) -> list[str]:
    return files("simulation.catalogue").joinpath(name).read_text(encoding="utf-8").splitlines()


def _option_sets(rng: np.random.Generator) -> list[list[str]]:
    options = list(csv.DictReader(_lines("options.csv")))
    bare, full = (np.array([float(option[column]) for option in options]) for column in ("bare", "full"))
    sets = []
    for level in np.repeat(np.arange(LEVELS) / (LEVELS - 1), _SETS_A_LEVEL):
        chosen = np.flatnonzero(rng.random(len(options)) < bare + (full - bare) * level)
        sets.append([options[index]["option"] for index in chosen] or ["Alloy Wheels"])
    return sets


@cache
def load_text_pools() -> TextPools:
    """The pools, the same in every data set."""
    rng = np.random.default_rng(_SEED)
    sets = _option_sets(rng)
    features = np.array(_lines("features.txt"))
    colours = list(csv.DictReader(_lines("colours.csv")))
    return TextPools(
        options=tuple(str(names) for names in sets),
        option_counts=np.array([len(names) for names in sets]),
        features=tuple(
            ",".join(rng.permutation(features)[: rng.integers(4, len(features))])
            for _ in range(_FEATURE_LISTS)
        ),
        interiors=tuple(_lines("interiors.txt")),
        colours=tuple(colour["colour"] for colour in colours),
        colour_shares=np.array([float(colour["share"]) for colour in colours]),
        colour_prices=np.array([float(colour["price"]) for colour in colours]),
        shades=tuple(tuple(colour["shades"].split("|")) for colour in colours),
    )
