"""What is asked of every answer, in all scenarios."""

from collections import Counter
from collections.abc import Sequence
from typing import Any


def each_is_answered_once(answers: Sequence[dict[str, Any]], asked: int) -> bool:
    """Whether there are as many answers as requests were asked, each to a request of its own."""
    offsets = Counter((answer["partition"], answer["source_offset"]) for answer in answers)
    return len(answers) == asked == len(offsets) and {answer["answers"] for answer in answers} == {1}
