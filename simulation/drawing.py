"""Which cars are for sale, where and in which state: the numbers of a chunk of listings, column-wise."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simulation import pricing
from simulation.catalogue.dealers import load_dealers
from simulation.catalogue.vehicles import Catalogue, load_catalogue
from simulation.text_pools import LEVELS, SALES_TALK, load_text_pools

Draws = dict[str, NDArray[Any]]

NEW_SHARE: Final = 0.469
_NEW_YEARS: Final = {2019: 0.02, 2020: 0.86, 2021: 0.6}
_USED_YEARS: Final = {
    2021: 0.001,
    2020: 0.062,
    2019: 0.185,
    2018: 0.18,
    2017: 0.3,
    2016: 0.08,
    2015: 0.07,
    2014: 0.05,
    2013: 0.04,
    2012: 0.032,
    2011: 0.027,
    2010: 0.019,
    2009: 0.013,
    2008: 0.015,
    2007: 0.012,
    2006: 0.01,
    2005: 0.008,
}
_OLDER: Final = 0.82  # each year before 2005 against the next
_FIRST_SCRAPE: Final = np.datetime64("2020-09-09")
# Listing ids are an arithmetic progression modulo a prime: unique within a data set, scattered between seeds.
_ID_PRIME, _ID_STEP, _FIRST_ID = 149_999_957, 47_055_833, 133_000_000
_SAME_LISTING_AGAIN: Final = 0.002
_SAME_CAR_RELISTED: Final = 0.002
_OUTLIERS: Final = 0.0004  # of each kind
_ABSURD: Final = {
    "price": [1.0, 165.0, 1_234_567.0, 3_299_995.0],
    "mileage": [999_999.0, 10_000_000.0, 99_999_988.0],
    "shown_year": [1901, 1915, 2049, 2107],
}
# Rates that hold among used cars with a history.
_HISTORY_MISSING_USED: Final = 0.012


@dataclass(frozen=True)
class _Supply:
    """What can be listed: weights, cumulated, of (model, year, new) triples and of vehicles in a model."""

    catalogue: Catalogue
    model: NDArray[np.int64]
    year: NDArray[np.int64]
    is_new: NDArray[np.bool_]
    cumulated: NDArray[np.float64]
    vehicle_cumulated: NDArray[np.float64]
    list_price: NDArray[np.float64]
    level: NDArray[np.float64]
    depreciation: NDArray[np.float64]
    make: NDArray[np.int64]


def _used_year_weight(year: int) -> float:
    return _USED_YEARS.get(year) or _USED_YEARS[2005] * _OLDER ** (2005 - year)


@cache
def _supply() -> _Supply:
    catalogue, makes = load_catalogue(), {make: index for index, make in enumerate(load_dealers().makes)}
    triples: list[tuple[int, int, bool, float]] = []
    new_total = sum(model.new_weight for model in catalogue.models)
    used_total = sum(model.used_weight for model in catalogue.models)
    for index, model in enumerate(catalogue.models):
        years = range(model.first_year, model.last_year + 1)
        fresh = {year: _NEW_YEARS[year] for year in years if year in _NEW_YEARS}
        for year, weight in fresh.items():
            share = NEW_SHARE * model.new_weight / new_total
            triples.append((index, year, True, share * weight / sum(fresh.values())))
        # A generation's weight counts for the years it was sold in, as common as these are.
        used = {year: _used_year_weight(year) for year in years}
        for year, weight in used.items():
            share = (1 - NEW_SHARE) * model.used_weight / used_total
            triples.append((index, year, False, share * weight / sum(used.values())))
    model_column, year_column, new_column, weights = (
        np.array(column) for column in zip(*triples, strict=True)
    )
    vehicles = catalogue.vehicles
    vehicle_weights = np.array([vehicle.weight for vehicle in vehicles])
    totals = np.add.reduceat(vehicle_weights, catalogue.starts[:-1])
    vehicle_models = np.array([vehicle.model for vehicle in vehicles])
    models = [catalogue.models[vehicle.model] for vehicle in vehicles]
    return _Supply(
        catalogue=catalogue,
        model=model_column,
        year=year_column,
        is_new=new_column.astype(bool),
        cumulated=np.cumsum(weights) / weights.sum(),
        vehicle_cumulated=np.concatenate([[0.0], np.cumsum(vehicle_weights / totals[vehicle_models])]),
        list_price=np.array([vehicle.price for vehicle in vehicles]),
        level=np.array([vehicle.level for vehicle in vehicles]),
        depreciation=np.array(
            [catalogue.depreciation[m.make] * pricing.BODY_DEPRECIATION.get(m.body, 1.0) for m in models]
        ),
        make=np.array([makes[model.make] for model in models]),
    )


def _pick(rng: np.random.Generator, cumulated: NDArray[np.float64], rows: int) -> NDArray[np.int64]:
    return np.minimum(np.searchsorted(cumulated, rng.random(rows), side="right"), len(cumulated) - 1)


def _vehicles(rng: np.random.Generator, models: NDArray[np.int64]) -> NDArray[np.int64]:
    supply = _supply()
    starts, ends = supply.catalogue.starts[models], supply.catalogue.starts[models + 1]
    low, high = supply.vehicle_cumulated[starts], supply.vehicle_cumulated[ends]
    found = (
        np.searchsorted(supply.vehicle_cumulated, low + (high - low) * rng.random(len(models)), side="right")
        - 1
    )
    return np.clip(found, starts, ends - 1)


def _dealers(
    rng: np.random.Generator, make: NDArray[np.int64], is_new: NDArray[np.bool_]
) -> NDArray[np.int64]:
    dealers = load_dealers()
    rows, franchised = len(make), int(dealers.starts[-1])
    low, high = dealers.starts[make], dealers.starts[make + 1]
    # The better half of a uniform draw twice: large dealers, with low numbers within their make, list more.
    own = low + ((high - low) * np.minimum(rng.random(rows), rng.random(rows))).astype(np.int64)
    any_franchise = rng.integers(0, franchised, rows)
    independent = rng.integers(franchised, len(dealers.name), rows)
    luck = rng.random(rows)
    used = np.where(luck < 0.36, independent, np.where(luck < 0.66, own, any_franchise))
    return np.where(is_new, np.where(luck < 0.985, own, any_franchise), used)


def _mileage(
    rng: np.random.Generator, year: NDArray[np.int64], is_new: NDArray[np.bool_]
) -> NDArray[np.float64]:
    age = np.maximum(2020 - year, 0).astype(float)
    middle = np.interp(
        age, [0, 1, 2, 3, 4, 6, 9, 14, 30], [8e3, 24e3, 29e3, 34e3, 54e3, 72e3, 100e3, 132e3, 120e3]
    )
    spread = np.interp(age, [0, 1, 2, 3, 4, 8, 20], [1.0, 0.6, 0.52, 0.46, 0.45, 0.4, 0.5])
    used = np.minimum(middle * np.exp(spread * rng.standard_normal(len(age))), 20e3 + 32e3 * (age + 0.5))
    fresh = np.where(rng.random(len(age)) < 0.07, 0.0, np.exp(1.55 + 0.95 * rng.standard_normal(len(age))))
    demonstrator = rng.random(len(age)) < 0.02
    fresh = np.where(demonstrator, fresh * 300, fresh)
    return np.floor(np.where(is_new, np.minimum(fresh, 9_000), np.maximum(used, 100)))


def _days_on_market(rng: np.random.Generator, is_new: NDArray[np.bool_]) -> NDArray[np.int64]:
    middle, spread = np.where(is_new, 58.0, 30.0), np.where(is_new, 1.15, 1.1)
    days: NDArray[np.int64] = np.minimum(
        middle * np.exp(spread * rng.standard_normal(len(is_new))), 3_500
    ).astype(np.int64)
    return days


def _history(rng: np.random.Generator, draws: Draws) -> None:
    rows, is_new = len(draws["year"]), draws["is_new"]
    age = np.maximum(2020 - draws["year"], 0)
    known = ~is_new & (rng.random(rows) >= _HISTORY_MISSING_USED)
    draws["history"] = known
    draws["has_accidents"] = known & (rng.random(rows) < 0.08 + 0.022 * np.minimum(age, 10))
    draws["frame_damaged"] = draws["has_accidents"] & (rng.random(rows) < 0.06)
    draws["salvage"] = known & (rng.random(rows) < 0.004 + 0.09 * draws["frame_damaged"])
    draws["theft_title"] = known & (rng.random(rows) < 0.003)
    draws["fleet"] = known & (rng.random(rows) < np.where((age > 0) & (age < 4), 0.3, 0.1))
    draws["isCab"] = known & (rng.random(rows) < 0.35 * draws["fleet"] + 0.02)
    draws["owners"] = np.minimum(1 + rng.poisson(np.clip(0.16 * (age - 1), 0.02, 3)), 9)
    # 3 % of the listings have a history, but no count of owners.
    draws["owners_known"] = known & (rng.random(rows) >= 0.057)
    draws["certified"] = ~is_new & (age < 6) & ~draws["frame_damaged"] & (rng.random(rows) < 0.145)
    draws["by_maker"] = draws["certified"] & (rng.random(rows) < 0.74)


def _colours(rng: np.random.Generator, draws: Draws) -> NDArray[np.float64]:
    rows, pools = len(draws["year"]), load_text_pools()
    draws["colour"] = _pick(rng, np.cumsum(pools.colour_shares), rows)
    draws["shade"] = rng.integers(0, 1 << 20, rows)
    draws["interior"] = (len(pools.interiors) * rng.random(rows) ** 2).astype(np.int64)
    effects: NDArray[np.float64] = pools.colour_prices[draws["colour"]]
    return effects


def _put_outliers(rng: np.random.Generator, draws: Draws) -> None:
    def hit() -> NDArray[np.bool_]:
        return rng.random(len(draws["year"])) < _OUTLIERS

    rows = len(draws["year"])
    draws["price"] = np.where(hit(), rng.choice([1.0, 165.0, 1_234_567.0, 3_299_995.0], rows), draws["price"])
    draws["mileage"] = np.where(
        hit(), rng.choice([999_999.0, 10_000_000.0, 99_999_988.0], rows), draws["mileage"]
    )
    draws["shown_year"] = np.where(hit(), rng.choice([1901, 1915, 2049, 2107], rows), draws["year"])


def _repeat_listings(rng: np.random.Generator, draws: Draws) -> Draws:
    """Some listings come again as they are, some cars under another listing id and price."""
    rows = len(draws["year"])
    luck, positions = rng.random(rows), np.arange(rows)
    earlier = np.maximum(positions - rng.integers(1, 500, rows), 0)
    again, relisted = luck < _SAME_LISTING_AGAIN, (luck >= 0.5) & (luck < 0.5 + _SAME_CAR_RELISTED)
    source = np.where(again | relisted, earlier, positions)
    repeated = {name: column[source] for name, column in draws.items()}
    repeated["listing_id"] = np.where(relisted, draws["listing_id"], repeated["listing_id"])
    repeated["price"] = np.where(relisted, np.round(repeated["price"] * 0.98), repeated["price"])
    return repeated


def _shop_prices(rng: np.random.Generator, price: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole dollars, most of them with the endings that dealers like."""
    taste = np.where(price > 4_000, rng.random(len(price)), 1.0)
    endings = [np.round(price, -2) + 95, np.round(price, -3) - 5]
    return np.select([taste < 0.35, taste < 0.6], endings, np.round(price))


def draw_listings(rng: np.random.Generator, first_row: int, rows: int, id_origin: int) -> Draws:
    """Numbers of `rows` listings from `first_row` of the data set on; every array has one entry a listing."""
    supply, pools, dealers = _supply(), load_text_pools(), load_dealers()
    kind = _pick(rng, supply.cumulated, rows)
    draws: Draws = {"model": supply.model[kind], "year": supply.year[kind], "is_new": supply.is_new[kind]}
    draws["vehicle"] = _vehicles(rng, draws["model"])
    vehicle, is_new, year = draws["vehicle"], draws["is_new"], draws["year"]
    draws["make"] = supply.make[vehicle]
    draws["dealer"] = _dealers(rng, draws["make"], is_new)
    draws["mileage"] = _mileage(rng, year, is_new)
    draws["days_on_market"] = _days_on_market(rng, is_new)
    scraped = _FIRST_SCRAPE + rng.integers(0, 6, rows).astype("timedelta64[D]")
    draws["listed_date"] = scraped - draws["days_on_market"].astype("timedelta64[D]")
    _history(rng, draws)
    colour_effect = _colours(rng, draws)
    level = np.clip(supply.level[vehicle] * 0.6 + 0.25 + 0.14 * rng.standard_normal(rows), 0, 1)
    level = np.clip(level - 0.03 * np.maximum(2019 - year, 0), 0, 1)
    sets = len(pools.options) // LEVELS
    draws["options"] = (level * (LEVELS - 1)).round().astype(np.int64) * sets + rng.integers(0, sets, rows)
    draws["features"] = rng.integers(0, len(pools.features), rows)
    draws["talk"] = rng.integers(0, len(SALES_TALK), (2, rows)).T
    saving = np.where(is_new | (rng.random(rows) < 0.022), 0.0, np.minimum(rng.exponential(0.044, rows), 0.5))
    logarithm = pricing.log_prices(
        rng,
        list_price=supply.list_price[vehicle],
        is_new=is_new,
        year=year,
        mileage=draws["mileage"],
        depreciation=supply.depreciation[vehicle],
        options=pools.option_counts[draws["options"]],
        dealer=dealers.price[draws["dealer"]],
        owners=draws["owners"],
        accidents=draws["has_accidents"],
        frame_damaged=draws["frame_damaged"],
        salvage=draws["salvage"],
        fleet=draws["fleet"],
        certified=draws["certified"],
        days_on_market=draws["days_on_market"].astype(float),
        colour=colour_effect,
        saving=saving,
    )
    price = np.maximum(np.exp(logarithm), 500.0)
    draws["price"] = _shop_prices(rng, price)
    draws["savings"] = (saving * price).astype(np.int64)
    positions = first_row + np.arange(rows, dtype=np.int64)
    draws["listing_id"] = _FIRST_ID + (id_origin + positions * _ID_STEP) % _ID_PRIME
    draws["picture"] = rng.integers(10**17, 9 * 10**18, rows)
    draws["serial"] = rng.integers(0, 10**6, rows)
    draws["vin_noise"] = rng.integers(0, 33, (rows, 4))
    draws["gaps"] = rng.random((rows, 16)).astype(np.float32)
    _put_outliers(rng, draws)
    return _repeat_listings(rng, draws)
