"""What was answered, beside the true prices: as a table, as a summary, as JSON."""

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from rich.table import Table

from simulation.asking import Conversation, Question


def _price(question: Question) -> float | None:
    answer = question.answer or {}
    return float(answer["price"]) if answer.get("type") == "price" else None


def _interval(question: Question) -> tuple[float, float] | None:
    answer = question.answer or {}
    low, high = answer.get("price_low"), answer.get("price_high")
    return None if low is None or high is None else (float(low), float(high))


def _entry(question: Question) -> dict[str, Any]:
    answer = question.answer or {}
    return {
        "request_id": question.request_id,
        "type": answer.get("type"),
        "partition": answer.get("partition"),
        "source_offset": answer.get("source_offset"),
        "model_version": answer.get("model_version"),
        "price": _price(question),
        "price_low": answer.get("price_low"),
        "price_high": answer.get("price_high"),
        "true_price": question.true_price,
        "reason": answer.get("reason"),
        "field": answer.get("field"),
        "sent_at": question.sent,
        "answered_after_seconds": question.latency,
        "answers": question.answers,
    }


def _percentile(values: list[float], share: float) -> float | None:
    """Nearest-rank percentile."""
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, max(0, round(share * len(values) + 0.5) - 1))]


def summarise(conversation: Conversation) -> dict[str, Any]:
    """Counts, errors in dollars, shares (MAPE, inside_interval), latencies in seconds; null without any."""
    questions = conversation.questions
    pairs = [(price, q.true_price) for q in questions if (price := _price(q)) is not None and q.true_price]
    intervals = [(i, q.true_price) for q in questions if (i := _interval(q)) is not None and q.true_price]
    errors = [abs(price - true) for price, true in pairs]
    latencies = [question.latency for question in questions if question.latency is not None]
    rejected = [question.answer for question in questions if question.answer and _price(question) is None]
    return {
        "asked": len(questions),
        "priced": sum(_price(question) is not None for question in questions),
        "rejected": dict(Counter(str(answer.get("reason")) for answer in rejected)),
        "unanswered": sum(question.answer is None for question in questions),
        "answered_twice": sum(question.answers > 1 for question in questions),
        "undelivered": len(conversation.undelivered),
        "mae": statistics.fmean(errors) if errors else None,
        "median_absolute_error": statistics.median(errors) if errors else None,
        "mape": statistics.fmean(abs(p - true) / true for p, true in pairs) if pairs else None,
        "inside_interval": statistics.fmean(low <= true <= high for (low, high), true in intervals)
        if intervals
        else None,
        "latency_median_seconds": statistics.median(latencies) if latencies else None,
        "latency_p99_seconds": _percentile(latencies, 0.99),
    }


def write_json(conversation: Conversation, path: Path) -> None:
    """Write every answer and the summary."""
    answers = [_entry(question) for question in conversation.questions]
    content = {"answers": answers, "summary": summarise(conversation)}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _dollars(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:,.0f} ms"


def price_table(conversation: Conversation, longest: int) -> Table:
    """The first `longest` cars with answered and true price."""
    table = Table(
        *("car", "answered", "between", "true price", "difference", "model", "latency"),
        title="Prices in dollars",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for question in conversation.questions[:longest]:
        listing, price, true = question.listing, _price(question), question.true_price
        interval = _interval(question)
        names = (listing.get(name) for name in ("year", "make_name", "model_name", "trim_name"))
        refusal = (question.answer or {}).get("reason") or "no answer"
        table.add_row(
            " ".join(name for name in names if name),
            _dollars(price) if price is not None else f"[red]{refusal}[/red]",
            " to ".join(map(_dollars, interval)) if interval else "",
            _dollars(true),
            f"{(price - true) / true:+.1%}" if price is not None and true else "",
            str((question.answer or {}).get("model_version") or ""),
            _milliseconds(question.latency),
        )
    return table


def summary_lines(conversation: Conversation) -> list[str]:
    """The summary in a few lines."""
    summary = summarise(conversation)
    lines = [f"{summary['asked']} asked, {summary['priced']} priced, {summary['unanswered']} unanswered"]
    lines += [f"{count} rejected: {reason}" for reason, count in summary["rejected"].items()]
    lines += [
        f"{summary[name]} {name.replace('_', ' ')}"
        for name in ("answered_twice", "undelivered")
        if summary[name]
    ]
    if summary["mae"] is not None:
        lines.append(f"MAE ${summary['mae']:,.0f}, MAPE {summary['mape']:.1%}")
    if summary["inside_interval"] is not None:
        lines.append(f"{summary['inside_interval']:.1%} of the true prices in their interval")
    if summary["latency_median_seconds"] is not None:
        median, slow = summary["latency_median_seconds"], summary["latency_p99_seconds"]
        lines.append(f"latency: median {_milliseconds(median)}, p99 {_milliseconds(slow)}")
    return lines
