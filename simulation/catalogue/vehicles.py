"""Every vehicle that can be listed: a model with one trim, engine, drive and transmission.

`models.csv` holds one line a model generation. Its notation: years `2015-2020`; weights of new and used
listings; price of the base trim when new, in dollars; inches, gallons (`-`: not published); drives and
transmissions `name:weight`; engines `V6F 3.5 290@6500 255@4000 17/24 66 +0` (cylinders with F flex fuel,
H hybrid, D diesel, B biodiesel; litres, power and torque at revolutions, city and highway economy, weight,
price); trims `name:price:weight`. `makes.csv` holds each make's world manufacturer identifier, and how fast
its cars lose value against the average of 1.
"""

import csv
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

FUELS: Final = {"F": "Flex Fuel Vehicle", "H": "Hybrid", "D": "Diesel", "B": "Biodiesel", "": "Gasoline"}
DRIVES: Final = {
    "4WD": "Four-Wheel Drive",
    "AWD": "All-Wheel Drive",
    "FWD": "Front-Wheel Drive",
    "RWD": "Rear-Wheel Drive",
    "4X2": "4X2",
}
_DRIVE_PRICES: Final = {"4WD": 2600.0, "AWD": 1500.0, "FWD": 0.0, "RWD": 0.0, "4X2": 0.0}
_ALL_WHEELS: Final = (
    "AWD",
    "4WD",
    "quattro",
    "4MATIC",
    "xDrive",
    "ALL4",
    "Q4",
    "4S",
    "P100D",
    "75D",
    "Rubicon",
)
_TWO_WHEELS: Final = ("FWD", "RWD", "sDrive")
# How strongly the dearer engines go with the dearer trims.
_ENGINE_FOLLOWS_TRIM: Final = 1.5


@dataclass(frozen=True)
class Engine:
    """An engine as catalogued; power in horsepower, torque in pound-feet, economy in miles a gallon."""

    cylinders: str
    fuel: str
    litres: float
    power: int
    power_rpm: int
    torque: int
    torque_rpm: int
    city: int
    highway: int
    weight: float
    price: float

    @property
    def electric(self) -> bool:
        """Whether there is no combustion engine at all."""
        return self.cylinders == "EV"


@dataclass(frozen=True)
class Vehicle:
    """One combination that can be listed; `price` in dollars when new, `level` of the trim from 0 to 1."""

    model: int
    trim: int
    trim_name: str
    level: float
    engine: Engine
    drive: str
    transmission: str
    price: float
    weight: float


@dataclass(frozen=True)
class Model:
    """A model generation; dimensions as published text, without unit."""

    make: str
    name: str
    body: str
    first_year: int
    last_year: int
    new_weight: float
    used_weight: float
    price: float
    dimensions: Mapping[str, str]


@dataclass(frozen=True)
class Catalogue:
    """Models and vehicles; the vehicles of model m are `vehicles[starts[m]:starts[m + 1]]`."""

    manufacturers: Mapping[str, str]
    depreciation: Mapping[str, float]
    models: Sequence[Model]
    vehicles: Sequence[Vehicle]
    starts: NDArray[np.int64]


def _weighted(text: str) -> dict[str, float]:
    return {name: float(weight) for name, weight in (part.split(":") for part in text.split())}


def _engine(text: str) -> Engine:
    code, litres, *rest = text.split()
    if code == "EV":  # `EV - power torque economy weight price`
        power, torque, economy, weight, price = rest
        power_rpm = torque_rpm = "0"
    else:
        output, twist, economy, weight, price = rest
        power, power_rpm = output.split("@")
        torque, torque_rpm = twist.split("@") if twist != "-" else ("0", "0")
    city, highway = economy.split("/") if economy != "-" else ("0", "0")
    fuel = code[2:] if code != "EV" else ""
    numbers = [int(number) for number in (power, power_rpm, torque, torque_rpm, city, highway)]
    return Engine(
        cylinders=code[:2],
        fuel="Electric" if code == "EV" else FUELS[fuel],
        litres=0.0 if litres == "-" else float(litres),
        power=numbers[0],
        power_rpm=numbers[1],
        torque=numbers[2],
        torque_rpm=numbers[3],
        city=numbers[4],
        highway=numbers[5],
        weight=float(weight),
        price=float(price),
    )


def _trims(text: str) -> list[tuple[str, float, float]]:
    parts = [part.rsplit(":", 2) for part in text.split(";")]
    return [(name, float(price), float(weight)) for name, price, weight in parts]


def _fits(trim: str, drive: str, drives: Mapping[str, float]) -> bool:
    all_wheels = drive in ("AWD", "4WD")
    if len(drives) == 1:
        return True
    if any(sign in trim for sign in _ALL_WHEELS):
        return all_wheels
    if any(sign in trim for sign in _TWO_WHEELS):
        return not all_wheels
    return True


def _rank(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    return (value - low) / (high - low) if high > low else 0.5


def _vehicles(index: int, row: Mapping[str, str], trim_numbers: Iterator[int]) -> Iterator[Vehicle]:
    drives, transmissions = _weighted(row["drives"]), _weighted(row["transmissions"])
    engines, trims = [_engine(text) for text in row["engines"].split(";")], _trims(row["trims"])
    for trim_name, trim_price, trim_weight in trims:
        number = next(trim_numbers)
        level = _rank(trim_price, [price for _, price, _ in trims])
        for engine, (drive, drive_weight), (box, box_weight) in itertools.product(
            engines, drives.items(), transmissions.items()
        ):
            if not _fits(trim_name, drive, drives):
                continue
            engine_rank = _rank(engine.price, [other.price for other in engines])
            pull = math.exp(4 * _ENGINE_FOLLOWS_TRIM * (level - 0.5) * (engine_rank - 0.5))
            named = any(sign in trim_name for sign in (*_ALL_WHEELS, *_TWO_WHEELS))
            shown_drive = "" if named or len(drives) == 1 else f" {drive.replace('4X2', 'RWD')}"
            yield Vehicle(
                model=index,
                trim=number,
                trim_name=trim_name + shown_drive,
                level=level,
                engine=engine,
                drive=drive,
                transmission=box,
                price=float(row["price"])
                + trim_price
                + engine.price
                + (_DRIVE_PRICES[drive] - min(_DRIVE_PRICES[other] for other in drives)) * (not named)
                - 900 * box.startswith("M") * (len(transmissions) > 1),
                weight=trim_weight * engine.weight * drive_weight * box_weight * pull,
            )


def _table(name: str) -> list[dict[str, str]]:
    text = files("simulation.catalogue").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def load_catalogue() -> Catalogue:
    """The catalogue of the package."""
    makes, rows = _table("makes.csv"), _table("models.csv")
    trim_numbers = itertools.count()
    models: list[Model] = []
    vehicles: list[Vehicle] = []
    starts = [0]
    for index, row in enumerate(rows):
        first, last = row["years"].split("-")
        names = ("length", "wheelbase", "width", "height", "front_legroom", "back_legroom", "tank", "seats")
        models.append(
            Model(
                make=row["make"],
                name=row["model"],
                body=row["body"],
                first_year=int(first),
                last_year=int(last),
                new_weight=float(row["new"]),
                used_weight=float(row["used"]),
                price=float(row["price"]),
                dimensions={name: row[name] for name in names},
            )
        )
        vehicles.extend(_vehicles(index, row, trim_numbers))
        starts.append(len(vehicles))
    return Catalogue(
        manufacturers={make["make"]: make["manufacturer"] for make in makes},
        depreciation={make["make"]: float(make["depreciation"]) for make in makes},
        models=models,
        vehicles=vehicles,
        starts=np.array(starts),
    )
