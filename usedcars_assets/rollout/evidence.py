"""Which version is judged, and when.

Judged is the version that a rollout brought into service, against the one that it replaced. A version that a
rollback brought back is not: so two versions never alternate, and only another rollout is judged again.
"""

import math
from collections.abc import Sequence

from usedcars_assets.rollout.ledger import Entry


def version_under_watch(ledger: Sequence[Entry]) -> Entry | None:
    """The newest rollout whose version answered and replaced another, unless a rollback came after it."""
    changes = [entry for entry in ledger if entry.kind in ("rollout", "rollback")]
    answered = [entry for entry in changes if entry.outcome == "answered"]
    if not answered or answered[-1].kind != "rollout" or answered[-1].former in (None, answered[-1].version):
        return None
    return answered[-1]


def looks(first: int, most: int) -> int:
    """How often the evidence is looked at: at `first` messages, and at each doubling up to `most`."""
    return int(math.log2(max(most / first, 1))) + 1


def look_reached(messages: int, first: int, most: int) -> int | None:
    """The number, from 0 on, of the last look that so many messages are enough for; None before the first."""
    return min(int(math.log2(messages / first)), looks(first, most) - 1) if messages >= first else None
