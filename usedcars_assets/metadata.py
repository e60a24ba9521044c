"""How values are shown in Dagster's UI."""

from collections.abc import Mapping, Sequence


def table_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as a Markdown table; a cell without a value stays empty."""
    if not rows:
        return "No rows."
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(name, "").replace("|", "/").replace("\n", " ") for name in columns] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
