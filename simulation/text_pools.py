"""Ready-made texts that listings are put together from: options, descriptions, colours."""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

_SEED: Final = 7_391
LEVELS: Final = 10
_SETS_A_LEVEL: Final = 400
# Option, its share among bare cars and among full ones.
_OPTIONS: Final[tuple[tuple[str, float, float], ...]] = (
    ("Leather Seats", 0.03, 0.92), ("Sunroof/Moonroof", 0.04, 0.8), ("Navigation System", 0.05, 0.85),
    ("Adaptive Cruise Control", 0.12, 0.6), ("Third Row Seating", 0.06, 0.25), ("Alloy Wheels", 0.4, 0.97),
    ("Bluetooth", 0.75, 0.97), ("Backup Camera", 0.7, 0.97), ("Steel Wheels", 0.1, 0.01), ("Remote Start", 0.08, 0.7),
    ("Blind Spot Monitoring", 0.1, 0.7), ("Parking Sensors", 0.03, 0.55), ("CarPlay", 0.3, 0.65),
    ("Android Auto", 0.28, 0.63), ("Heated Seats", 0.08, 0.9), ("Multi Zone Climate Control", 0.03, 0.4),
    ("Technology Package", 0.02, 0.2), ("Premium Package", 0.02, 0.22), ("Convenience Package", 0.04, 0.15),
    ("Quick Order Package", 0.05, 0.1), ("Tow Package", 0.02, 0.12), ("Driver's Assistance Package", 0.01, 0.05),
    ("Sport Package", 0.02, 0.1), ("Power Package", 0.03, 0.07), ("Preferred Package", 0.03, 0.08),
)  # fmt: skip
COLOURS: Final[dict[str, tuple[float, tuple[str, ...]]]] = {
    "WHITE": (0.205, ("White", "Summit White", "Oxford White", "Bright White Clearcoat", "Pearl White Tricoat", "Super White")),
    "BLACK": (0.19, ("Black", "Narvik Black", "Jet Black", "Shadow Black", "Diamond Black Crystal Pearlcoat")),
    "GRAY": (0.14, ("Gray", "Magnetic Metallic", "Granite Crystal Metallic Clearcoat", "Eiger Gray", "Gun Metallic")),
    "SILVER": (0.125, ("Silver", "SONIC SILVER", "Ingot Silver", "Silver Ice Metallic", "Brilliant Silver")),
    "UNKNOWN": (0.135, ("None", "Agate", "Kaikoura Stone", "Nightfall Mica", "Stellar, Metallic", "Iconic")),
    "BLUE": (0.087, ("Blue", "Lightning Blue", "Blue Velvet", "Velvet Blue Pearlcoat", "Deep Blue Pearl")),
    "RED": (0.08, ("Red", "Ruby Red", "Soul Red Crystal", "Barcelona Red Metallic", "Cajun Red Tintcoat")),
    "BROWN": (0.01, ("Brown", "Mocha Steel Metallic", "Kona Coffee")),
    "GREEN": (0.01, ("Green", "Olive Green Pearlcoat", "Sarge Green")),
    "GOLD": (0.007, ("Gold", "Pepperdust Metallic", "Champagne")),
    "ORANGE": (0.006, ("Orange", "Sunset Orange", "Punk'n Metallic")),
    "YELLOW": (0.004, ("Yellow", "Solar Yellow", 'Yellow "Baja"')),
    "PURPLE": (0.001, ("Purple", "Plum Crazy Pearlcoat")),
}  # fmt: skip
INTERIORS: Final = (
    "Black", "None", "Gray", "Jet Black", "Charcoal", "Black (Ebony)", "Ebony", "Beige", "Gray (Ash)", "Brown (Ebony / Ebony)",
    "Black, leather", "Tan", "White (Eclipse / Ebony / Ebony)",
)  # fmt: skip
_FEATURES: Final = tuple(
    [
        "4-Wheel Disc Brakes",
        "A/C",
        "ABS",
        "AM/FM Stereo",
        "Adjustable Steering Wheel",
        "Aluminum Wheels",
        "Automatic Headlights",
        "Auxiliary Audio Input",
        "Back-Up Camera",
        "Bluetooth Connection",
        "Brake Assist",
        "Bucket Seats",
        "Child Safety Locks",
        "Cloth Seats",
        "Cruise Control",
        "Daytime Running Lights",
        "Driver Air Bag",
        "Engine Immobilizer",
        "Floor Mats",
        "Front Side Air Bag",
        "GVWR: 6,900 lbs",
        "HD Radio",
        "Heated door mirrors",
        "Intermittent Wipers",
        "Keyless Entry",
        "Keyless Start",
        "Knee Air Bag",
        "MP3 Player",
        "Power Door Locks",
        "Power Mirror(s)",
        "Power Steering",
        "Power Windows",
        "Rear Bench Seat",
        "Rear Defrost",
        "Stability Control",
        "Telematics",
        "Tires: 215/60R17 BSW AS Touring",
        "Traction Control",
        "Trip Computer",
        '18" x 8" 5-Spoke Aluminum Alloy Wheels',
        "Wheels: 17' x 7.0' Aluminum",
        "Front dual zone A/C",
        "Split folding rear seat",
        "Speed-Sensitive Wipers",
        "Front Bucket Seats",
        "Outside temperature display",
        "Telescoping steering wheel",
        "Tilt steering wheel",
    ]
)
SALES_TALK: Final = (
    "",
    "CERTIFIED CLEAN CARFAX!!! One owner, immaculate condition. Save yourself time and money by shopping with us.",
    'Buy with confidence: every car passes our "172-point" inspection, and comes with a free history report.',
    "Priced below market!\nCall today to schedule your test drive.\nFinancing available for all credit, good or bad.",
    "Excludes sales tax, registration fees, finance and reconditioning charges (dealer fees may apply).",
    "Odometer is 4,211 miles below market average!\r\n\r\nAwards:\r\n  * 10 Best Mid-Size Cars, Trucks and SUVs",
    "Price HIGHLY negotiable.\nNo accident. Small scratch on the tail bumper.\nAvailable for a test drive anytime!",
    'Recent arrival. $0 down available. Not responsible for typos; $500 deposit, "no questions asked".',
    "Come and visit our store, or see all of our vehicles online. We deliver anywhere in the 48 states.",
)


@dataclass(frozen=True)
class TextPools:
    """Option lists as Python prints them, with their lengths, `LEVELS` blocks of equal size; lists of features."""

    options: tuple[str, ...]
    option_counts: np.ndarray[tuple[int], np.dtype[np.int64]]
    features: tuple[str, ...]


@cache
def load_text_pools() -> TextPools:
    """The pools, the same in every data set."""
    rng = np.random.default_rng(_SEED)
    low, high = (np.array([option[place] for option in _OPTIONS]) for place in (1, 2))
    sets = []
    for level in np.repeat(np.arange(LEVELS) / (LEVELS - 1), _SETS_A_LEVEL):
        chosen = rng.random(len(_OPTIONS)) < low + (high - low) * level
        sets.append([_OPTIONS[index][0] for index in np.flatnonzero(chosen)] or ["Alloy Wheels"])
    features = [",".join(rng.permutation(_FEATURES)[: rng.integers(4, len(_FEATURES))]) for _ in range(1500)]
    return TextPools(
        tuple(str(names) for names in sets), np.array([len(names) for names in sets]), tuple(features)
    )
