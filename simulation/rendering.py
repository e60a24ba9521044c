"""Listings as lines of CSV: from the numbers of a chunk to its bytes, one string column at a time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simulation.catalogue.dealers import load_dealers
from simulation.catalogue.vehicles import DRIVES, Engine, Vehicle, load_catalogue
from simulation.drawing import Draws
from simulation.listing_format import COLUMNS, csv_field, escaped
from simulation.text_pools import SALES_TALK, load_text_pools
from simulation.vin import ALPHABET, model_year_codes, with_check_digits

Mask = NDArray[np.bool_]

# Shares of missing values over the 3,000,040 published rows.
MISSING: Final = {
    "engine_type": 0.0335,
    "horsepower": 0.0575,
    "power": 0.1605,
    "torque": 0.1726,
    "length": 0.0531,
    "city_fuel_economy": 0.1638,
    "wheel_system": 0.0489,
    "mileage": 0.0481,
    "transmission": 0.0214,
    "trimId": 0.0386,
    "description": 0.026,
    "main_picture_url": 0.123,
    "major_options": 0.0667,
    "seller_rating": 0.0136,
    "body_type": 0.0045,
    "fuel_type": 0.0276,
    "sp_id": 0.000032,
}
_BED_OF_PICKUPS, _CABIN_OF_PICKUPS = 0.05, 0.15
_HISTORY: Final = ("fleet", "frame_damaged", "has_accidents", "isCab", "salvage", "theft_title")
_DIMENSIONS: Final = ("length", "wheelbase", "width", "height", "front_legroom", "back_legroom")
_SPEEDS: Final = {"A": "{}-Speed Automatic Overdrive", "M": "{}-Speed Manual", "DCT": "{}-Speed Dual Clutch"}


@dataclass(frozen=True)
class _Pools:
    """Ready strings to take from, by model, vehicle or dealer; and what vehicles lack by nature."""

    by_model: dict[str, pa.Array]
    by_vehicle: dict[str, pa.Array]
    by_dealer: dict[str, pa.Array]
    features: pa.Array
    options: pa.Array
    talk: pa.Array
    colours: pa.Array
    interiors: pa.Array
    shades: pa.Array
    shade_starts: NDArray[np.int64]
    shade_counts: NDArray[np.int64]
    without_engine: Mask
    without_torque: Mask
    without_economy: Mask
    pickup: Mask
    trim: NDArray[np.int64]
    vin_head: NDArray[np.uint8]


def _strings(texts: Iterable[str]) -> pa.Array:
    return pa.array([csv_field(text) for text in texts], pa.string())


def _engine_type(engine: Engine) -> str:
    if engine.electric:
        return ""
    return engine.cylinders + ("" if engine.fuel == "Gasoline" else f" {engine.fuel}")


def _has_torque(engine: Engine) -> bool:
    # The published file tells that of hardly any hybrid.
    return bool(engine.torque_rpm) and engine.fuel != "Hybrid"


def _transmission(code: str) -> tuple[str, str]:
    if code == "CVT":
        return "CVT", "Continuously Variable Transmission"
    kind, speeds = code.rstrip("0123456789"), code.lstrip("ACDMT")
    if code == "A1":
        return "A", "Automatic"
    return {"DCT": "Dual Clutch"}.get(kind, kind), _SPEEDS[kind].format(speeds)


def _inches(text: str) -> str:
    return "--" if text == "-" else f"{text} in"


def _vehicle_pools(vehicles: Iterable[Vehicle]) -> dict[str, pa.Array]:
    def pool(text: Callable[[Vehicle], str]) -> pa.Array:
        return _strings(text(vehicle) for vehicle in vehicles)

    return {
        "engine_type": pool(lambda v: _engine_type(v.engine)),
        "engine_displacement": pool(lambda v: "" if v.engine.electric else f"{v.engine.litres * 1000:.1f}"),
        "horsepower": pool(lambda v: "" if v.engine.electric else f"{v.engine.power:.1f}"),
        "power": pool(
            lambda v: (
                f"{v.engine.power} hp" + (f" @ {v.engine.power_rpm:,} RPM" if v.engine.power_rpm else "")
            )
        ),
        "torque": pool(
            lambda v: (
                f"{v.engine.torque} lb-ft @ {v.engine.torque_rpm:,} RPM" if _has_torque(v.engine) else ""
            )
        ),
        "fuel_type": pool(lambda v: v.engine.fuel),
        "city_fuel_economy": pool(lambda v: f"{v.engine.city:.1f}" if v.engine.city else ""),
        "highway_fuel_economy": pool(lambda v: f"{v.engine.highway:.1f}" if v.engine.highway else ""),
        "transmission": pool(lambda v: _transmission(v.transmission)[0]),
        "transmission_display": pool(lambda v: _transmission(v.transmission)[1]),
        "wheel_system": pool(lambda v: v.drive),
        "wheel_system_display": pool(lambda v: DRIVES[v.drive]),
        "trim_name": pool(lambda v: v.trim_name),
        "cabin": pool(lambda v: "Crew Cab" if "Crew" in v.trim_name else "Extended Cab"),
        "bed": pool(lambda v: "Long" if "LB" in v.trim_name else "Short"),
        "bed_length": pool(
            lambda v: "96.3 in" if "LB" in v.trim_name else "67.1 in" if "Crew" in v.trim_name else "78.9 in"
        ),
    }


@cache
def _pools() -> _Pools:
    catalogue, dealers, texts = load_catalogue(), load_dealers(), load_text_pools()
    models, vehicles, engines = catalogue.models, catalogue.vehicles, [v.engine for v in catalogue.vehicles]
    by_model = {size: _strings(_inches(model.dimensions[size]) for model in models) for size in _DIMENSIONS}
    tanks = [model.dimensions["tank"] for model in models]
    by_model["fuel_tank_volume"] = _strings("--" if tank == "-" else f"{tank} gal" for tank in tanks)
    by_model["maximum_seating"] = _strings(f"{model.dimensions['seats']} seats" for model in models)
    by_model["make_name"] = _strings(model.make for model in models)
    by_model["model_name"] = _strings(model.name for model in models)
    by_model["body_type"] = _strings(model.body for model in models)
    by_model["slug"] = _strings(
        f"_{model.make} {model.name}-pic-".lower().replace(" ", "_") for model in models
    )
    by_model["title"] = pa.array([escaped(f" {model.make} {model.name} ") for model in models])
    by_dealer = {
        "city": _strings(dealers.city),
        "dealer_zip": _strings(dealers.zip_code),
        "franchise_make": _strings(dealers.franchise),
        "franchise_dealer": _strings(str(bool(make)) for make in dealers.franchise),
        "latitude": _strings(str(round(float(value), 4)) for value in dealers.latitude),
        "longitude": _strings(str(round(float(value), 4)) for value in dealers.longitude),
        "seller_rating": _strings(str(round(float(value), 6)) for value in dealers.rating),
        "sp_id": _strings(str(41_000 + 83 * index) for index in range(len(dealers.name))),
        "sp_name": _strings(dealers.name),
    }
    counts = np.array([len(names) for names in texts.shades])
    alphabet = np.frombuffer(ALPHABET.encode(), np.uint8)
    heads = np.array(
        [list(catalogue.manufacturers[models[v.model].make].encode()) for v in vehicles], np.uint8
    )
    codes = np.array([[v.model % 33, v.model // 33 % 33] for v in vehicles])
    return _Pools(
        by_model=by_model,
        by_vehicle=_vehicle_pools(vehicles),
        by_dealer=by_dealer,
        features=pa.array([escaped(text) for text in texts.features]),
        options=_strings(texts.options),
        talk=pa.array([escaped(text) for text in SALES_TALK]),
        colours=pa.array(texts.colours),
        interiors=_strings(texts.interiors),
        shades=_strings(name for names in texts.shades for name in names),
        shade_starts=np.cumsum(counts) - counts,
        shade_counts=counts,
        without_engine=np.array([engine.electric for engine in engines]),
        without_torque=np.array([not _has_torque(engine) for engine in engines]),
        without_economy=np.array([not engine.city for engine in engines]),
        pickup=np.array([models[v.model].body == "Pickup Truck" for v in vehicles]),
        trim=np.array([v.trim for v in vehicles]),
        vin_head=np.concatenate([heads, alphabet[codes]], axis=1),
    )


def _whole(values: NDArray[Any]) -> pa.Array:
    return pc.cast(pa.array(values.astype(np.int64)), pa.string())


def _decimal(values: NDArray[Any]) -> pa.Array:
    return _joined(_whole(values), ".0")


def _joined(*parts: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _shown(column: pa.Array, shown: Mask) -> pa.Array:
    return pc.if_else(pa.array(shown), column, "")


def _truth(values: Mask) -> pa.Array:
    return pc.if_else(pa.array(values), "True", "False")


def _missing(name: str, luck: NDArray[np.float32], by_nature: Mask | None = None) -> Mask:
    """What is missing by nature, and by chance as much more as reaches the published share."""
    if by_nature is None:
        return np.asarray(luck < MISSING[name])
    share = float(by_nature.mean())
    return np.asarray(by_nature | (luck < (MISSING[name] - share) / max(1 - share, 1e-9)))


def _vins(draws: Draws, pools: _Pools) -> pa.Array:
    rows = len(draws["year"])
    alphabet, noise, serial = np.frombuffer(ALPHABET.encode(), np.uint8), draws["vin_noise"], draws["serial"]
    codes = np.full((rows, 17), ord("0"), np.uint8)
    codes[:, :5] = pools.vin_head[draws["vehicle"]]
    codes[:, 5:8] = alphabet[noise[:, :3]]
    codes[:, 9] = model_year_codes(draws["year"])
    codes[:, 10] = alphabet[noise[:, 3]]
    for place in range(6):
        codes[:, 16 - place] = ord("0") + serial // 10**place % 10
    offsets = np.arange(rows + 1, dtype=np.int32) * 17
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(with_check_digits(codes)))


def _descriptions(draws: Draws, pools: _Pools) -> pa.Array:
    talk = pools.talk.take(pa.array(draws["talk"][:, 0]))
    more = pools.talk.take(pa.array(draws["talk"][:, 1]))
    titles = pools.by_model["title"].take(pa.array(draws["model"]))
    spoken = _joined(talk, " ", _whole(draws["year"]), titles, more)
    features = pools.features.take(pa.array(draws["features"]))
    silent = draws["is_new"] & (draws["talk"][:, 0] < 6)
    return _joined('"', pc.if_else(pa.array(silent), "", spoken), "[!@@Additional Info@@!]", features, '"')


def _columns(draws: Draws) -> dict[str, pa.Array]:
    pools, gaps, is_new = _pools(), draws["gaps"], draws["is_new"]
    model, vehicle, dealer = (pa.array(draws[name]) for name in ("model", "vehicle", "dealer"))
    columns = {name: pool.take(model) for name, pool in pools.by_model.items()}
    columns |= {name: pool.take(vehicle) for name, pool in pools.by_vehicle.items()}
    columns |= {name: pool.take(dealer) for name, pool in pools.by_dealer.items()}
    columns["engine_cylinders"] = columns["engine_type"]
    colour = draws["colour"]
    columns["listing_color"] = pools.colours.take(pa.array(colour))
    shade = pools.shade_starts[colour] + draws["shade"] % pools.shade_counts[colour]
    columns["exterior_color"] = pools.shades.take(pa.array(shade))
    columns["interior_color"] = pools.interiors.take(pa.array(draws["interior"]))
    columns["vin"] = _vins(draws, pools)
    columns["description"] = _descriptions(draws, pools)
    columns["major_options"] = pools.options.take(pa.array(draws["options"]))
    columns["daysonmarket"] = _whole(draws["days_on_market"])
    columns["listed_date"] = pc.cast(pa.array(draws["listed_date"]), pa.string())
    columns["listing_id"] = _whole(draws["listing_id"])
    columns["mileage"] = _decimal(draws["mileage"])
    columns["price"] = _decimal(draws["price"])
    columns["savings_amount"] = _whole(draws["savings"])
    columns["year"] = _whole(draws["shown_year"])
    columns["is_new"] = _truth(is_new)
    columns["trimId"] = _joined(
        "t", _whole(20_000 + pools.trim[draws["vehicle"]] * 23 + (2021 - draws["year"]) % 23)
    )
    day = pc.replace_substring(columns["listed_date"], "-", "/")
    columns["main_picture_url"] = _joined(
        "https://static.cargurus.com/images/forsale/",
        *(day, "/18/53/", _whole(draws["year"]), columns["slug"], _whole(draws["picture"]), "-152x114.jpeg"),
    )
    for name in _HISTORY:
        columns[name] = _shown(_truth(draws[name]), draws["history"])
    columns["owner_count"] = _shown(_decimal(draws["owners"]), draws["owners_known"])
    columns["is_cpo"] = _shown(_truth(draws["certified"]), draws["certified"])
    columns["is_oemcpo"] = _shown(_truth(draws["by_maker"]), draws["by_maker"])
    pickup = pools.pickup[draws["vehicle"]]
    columns["bed"] = _shown(columns["bed"], pickup & (gaps[:, 13] < _BED_OF_PICKUPS))
    columns["cabin"] = _shown(columns["cabin"], pickup & (gaps[:, 14] < _CABIN_OF_PICKUPS))
    columns["bed_length"] = _shown(columns["bed_length"], pickup)
    columns["bed_height"] = pc.if_else(pa.array(pickup), "--", "")
    _hide_missing(columns, draws, pools)
    return columns


def _hide_missing(columns: dict[str, pa.Array], draws: Draws, pools: _Pools) -> None:
    """Empty what is missing; the columns of one group are missing together, as in the published file."""
    gaps, vehicle, rows = draws["gaps"], draws["vehicle"], len(draws["year"])
    engine = pools.without_engine[vehicle]
    without = {
        ("engine_type", "engine_cylinders"): _missing("engine_type", gaps[:, 0], engine),
        ("engine_displacement", "horsepower"): _missing("horsepower", gaps[:, 0], engine),
        ("power",): _missing("power", gaps[:, 0]),
        ("torque",): _missing("torque", gaps[:, 0], pools.without_torque[vehicle]),
        (*_DIMENSIONS, "fuel_tank_volume", "maximum_seating"): _missing("length", gaps[:, 1]),
        ("city_fuel_economy", "highway_fuel_economy"): _missing(
            "city_fuel_economy", gaps[:, 2], pools.without_economy[vehicle]
        ),
        ("wheel_system", "wheel_system_display"): _missing("wheel_system", gaps[:, 3]),
        ("mileage",): gaps[:, 4] < np.where(draws["is_new"], 0.08, 0.02),
        ("transmission", "transmission_display"): _missing("transmission", gaps[:, 5]),
        ("trim_name", "trimId"): _missing("trimId", gaps[:, 6]),
        ("description",): _missing("description", gaps[:, 7]),
        ("main_picture_url",): _missing("main_picture_url", gaps[:, 8]),
        ("major_options",): _missing("major_options", gaps[:, 9]),
        ("seller_rating",): _missing("seller_rating", gaps[:, 10]),
        ("body_type",): _missing("body_type", gaps[:, 11]),
        ("fuel_type",): _missing("fuel_type", gaps[:, 12]),
        ("sp_id",): _missing("sp_id", gaps[:, 15]),
    }
    for names, missing in without.items():
        for name in names:
            columns[name] = _shown(columns[name], ~missing)
    for name in ("combine_fuel_economy", "is_certified", "vehicle_damage_category"):
        columns[name] = pa.array([""] * rows)


def render(draws: Draws, wanted: int) -> bytes:
    """The lines of CSV of the first `wanted` listings of a chunk, each with its line end."""
    columns = _columns(draws)
    fields = [columns[name] for name in COLUMNS]
    rows = pc.binary_join_element_wise(*fields[:-1], _joined(fields[-1], "\n"), ",")
    length = int(np.frombuffer(rows.buffers()[1], np.int32)[wanted])
    return bytes(memoryview(rows.buffers()[2])[:length])
