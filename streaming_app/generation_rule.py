"""The rule by which a reader drops what a process that was frozen still wrote after its successor."""

from collections.abc import Mapping
from typing import Any

from streaming_app.takeovers import NO_GENERATION


class GenerationRule:
    """Follows the answers of the predictions topic, in the order of each partition."""

    def __init__(self) -> None:
        self._newest: dict[int, int] = {}

    def counts(self, answer: Mapping[str, Any]) -> bool:
        """Whether the answer counts: none of a later generation stood before it in its partition."""
        try:
            partition, generation = int(answer["source_partition"]), int(answer["generation"])
        except (KeyError, TypeError, ValueError):
            return True  # from before there were generations
        newest = self._newest.get(partition, NO_GENERATION)
        self._newest[partition] = max(newest, generation)
        return generation >= newest
