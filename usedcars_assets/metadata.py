"""How values are shown in Dagster's UI."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_SAMPLE_ROWS = 5
_CELL = 60


def table_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as a Markdown table; a cell without a value stays empty."""
    if not rows:
        return "No rows."
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(name, "").replace("|", "/").replace("\n", " ") for name in columns] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sample_rows(table: "DataFrame") -> tuple[dict[str, str], ...]:
    """A few rows as texts, long values cut."""
    return tuple(
        {name: str(value)[:_CELL] for name, value in row.asDict().items() if value is not None}
        for row in table.limit(_SAMPLE_ROWS).collect()
    )
