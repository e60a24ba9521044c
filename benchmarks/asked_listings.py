"""Listings as a client asks for their prices."""

import json
from pathlib import Path

from simulation.asking import read_questions

UNREAD = ("description", "main_picture_url")  # long, and no model looks at them: who asks leaves them out
UNKNOWN = (None, "", "--", "None")  # placeholders of the published file


def asked_listings(raw: Path, count: int) -> list[str]:
    """The first listings of a raw file, each as a JSON object of what is known."""
    return [
        json.dumps({k: v for k, v in question.listing.items() if k not in UNREAD and v not in UNKNOWN})
        for question in read_questions(raw, count)
    ]
