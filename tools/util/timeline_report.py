"""Where the time of a deployment went, as a table and as a JSON document."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from timeline import Call


class Sum(NamedTuple):
    """Calls of one method or about one VM. Seconds."""

    name: str
    calls: int
    total: float
    waiting: float
    server: float
    own: float
    longest: float


class Rate(NamedTuple):
    """Calls of which the server handled `at_once` at the same time: their mean seconds, and their number a minute."""

    at_once: int
    calls: int
    seconds: float
    per_minute: float


def document(calls: list[Call]) -> dict[str, Any]:
    """Return all figures as a JSON object: `calls`, `methods`, `subjects`, `total`, `rates`, `limit`."""
    begin = calls[0].start
    return {
        "seconds": round(max(call.end for call in calls) - begin, 3),
        "calls": [
            {**call._asdict(), "start": round(call.start - begin, 3), "own": round(call.own, 3)} for call in calls
        ],
        "methods": [row._asdict() for row in sums(calls, lambda call: call.method)],
        "subjects": [row._asdict() for row in sums(calls, lambda call: call.subject)],
        "total": sums(calls, lambda call: "total")[0]._asdict(),
        "rates": [row._asdict() for row in rates(calls)],
        "limit": best_limit(calls),
    }


def sums(calls: Iterable[Call], key: Callable[[Call], str]) -> list[Sum]:
    """Return the sums of the calls by key, the largest total first."""
    groups: dict[str, list[Call]] = {}
    for call in calls:
        groups.setdefault(key(call), []).append(call)
    rows = [
        Sum(
            name,
            len(group),
            round(sum(call.total for call in group), 3),
            round(sum(call.waiting for call in group), 3),
            round(sum(call.server for call in group), 3),
            round(sum(call.own for call in group), 3),
            round(max(call.total for call in group), 3),
        )
        for name, group in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row.total, row.name))


def rates(calls: list[Call], method: str = "create_vm") -> list[Rate]:
    """Return how fast the server handled calls of a method, by the number of them that it handled at once."""
    chosen = [call for call in calls if call.method == method and call.server > 0 and not call.error]
    groups: dict[int, list[float]] = {}
    for call in chosen:
        shared = sum(_overlap(call, other) for other in chosen)
        groups.setdefault(round(shared / call.server), []).append(call.server)
    rows = []
    for at_once, durations in sorted(groups.items()):
        mean = sum(durations) / len(durations)
        rows.append(Rate(at_once, len(durations), round(mean, 3), round(60 * at_once / mean, 1)))
    return rows


def best_limit(calls: list[Call]) -> int | None:
    """Return the number of calls at once with the most VMs per minute, or None with fewer than two numbers."""
    rows = rates(calls)
    return max(rows, key=lambda row: (row.per_minute, -row.at_once)).at_once if len(rows) > 1 else None


def _overlap(call: Call, other: Call) -> float:
    """Return for how many seconds the server handled both calls. A call itself counts, too."""
    begin = max(call.end - call.server, other.end - other.server)
    return max(0.0, min(call.end, other.end) - begin)


def text(calls: list[Call]) -> str:
    """Return the figures as tables, and advice for the throttle limit."""
    figures = document(calls)
    lines = [f"{len(calls)} calls in {figures['seconds']:.1f} s", ""]
    for title, rows in (("method", figures["methods"]), ("VM or instance", figures["subjects"])):
        lines += [*_table(title, [*rows, {**figures["total"], "name": "total"}]), ""]
    lines += _failed(calls)
    return "\n".join([*lines, *_advice(calls), ""])


def _table(title: str, rows: list[dict[str, Any]]) -> list[str]:
    width = max(len(title), *(len(row["name"]) for row in rows))
    columns = ("calls", "total s", "slot s", "server s", "own s", "longest s")
    lines = [f"{title:{width}}" + "".join(f"{column:>11}" for column in columns)]
    for row in rows:
        figures = (row["total"], row["waiting"], row["server"], row["own"], row["longest"])
        lines.append(f"{row['name']:{width}}{row['calls']:>11}" + "".join(f"{figure:>11.1f}" for figure in figures))
    return lines


def _failed(calls: list[Call]) -> list[str]:
    failed = [call for call in calls if call.error]
    return [f"failed: {call.method} {call.request_id}: {call.error.splitlines()[0][:100]}" for call in failed] + (
        [""] if failed else []
    )


def _advice(calls: list[Call]) -> list[str]:
    rows, limit = rates(calls), best_limit(calls)
    lines = ["create_vm by the number of create_vm calls that the server handled at once:"] if rows else []
    for row in rows:
        lines.append(
            f"  {row.at_once:3} at once: {row.calls} calls of {row.seconds:.1f} s, {row.per_minute:.1f} VMs a minute"
        )
    if limit is None:
        return [*lines, "To find the best throttle limit, deploy with two or more limits and compare."] if rows else []
    lines.append(f"The highest rate was with {limit} at once: set throttle_config.limit to {limit}.")
    if limit == rows[-1].at_once:
        lines.append("The log contains no higher number at once. Deploy with a higher limit to compare.")
    return lines
