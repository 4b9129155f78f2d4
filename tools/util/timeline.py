"""The calls of the CPI in a log or in captures: when each ran, and what it waited for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from shell import UtilError

DIRECTOR_LINE = re.compile(
    r"^\w, \[(?P<time>\S+) #\d+\] \[(?P<thread>.*?)\] +\w+ -- \w+: \[external-cpi\] \[(?P<id>cpi-\d+)\] "
    r"(?P<kind>request|response): (?P<text>.*)",
)
"""A line of `bosh task ID --debug`: Bosh::Director writes one before and one after each call of the CPI."""
CPI_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z) \w+ +(?P<method>\w+) (?P<id>\S+): (?P<text>.*)"
)
"""A line that the CPI writes to stderr. BOSH appends stderr to its logs."""
SLOT = re.compile(r"waited (?P<seconds>[\d.]+) s for a throttle slot")
REQUESTS = re.compile(r"(?P<requests>\d+) requests in (?P<seconds>[\d.]+) s$", re.MULTILINE)
INSTANCE = re.compile(r"\w+\((?P<instance>[^()]+?)(?: \(\d+\))?(?:/\d+)?\)")
"""The thread of a director names the instance that it works on: `create_missing_vm(web/6b1c... (0)/1)`."""
CALLS_ON_A_VM = ("attach_disk", "delete_vm", "detach_disk", "get_disks", "has_vm", "reboot_vm", "set_vm_metadata")


class Call(NamedTuple):
    """One call. Times are seconds: `start` since the epoch, the others durations.

    `waiting` is the time until a throttle slot was free, `server` that of the action and its requests. `subject` is the
    instance or VM, or "-".
    """

    method: str
    request_id: str
    subject: str
    start: float
    total: float
    waiting: float
    server: float
    requests: int
    error: str

    @property
    def end(self) -> float:
        return self.start + self.total

    @property
    def own(self) -> float:
        """The remaining time: the start of Python and imports, before the wait for a slot."""
        return max(0.0, self.total - self.waiting - self.server)


def read(path: Path) -> list[Call]:
    """Return the calls in a log or in a directory of captures, by start. Raise UtilError if there are none."""
    if path.is_dir():
        calls = [call for file in sorted(path.glob("*.json")) for call in _captured(file)]
    elif path.is_file():
        text = path.read_text("utf-8", errors="replace")
        calls = list(_of_director(text)) or list(_of_cpi(text))
    else:
        raise UtilError(f"there is no file or directory {path}")
    if not calls:
        raise UtilError(
            f"{path} contains no calls of the CPI: use the output of bosh task ID --debug, a log or captures"
        )
    return sorted(calls, key=lambda call: call.start)


def _of_director(text: str) -> Iterator[Call]:
    """Yield the calls in a debug log of a task. A call without a response is left out."""
    requests: dict[str, tuple[float, dict[str, Any]]] = {}
    for record in re.split(r"^(?=\w, \[)", text, flags=re.MULTILINE):
        match = DIRECTOR_LINE.match(record)
        if match is None:
            continue
        time, document = _seconds(match["time"]), _first_document(match["text"])
        if match["kind"] == "request":
            requests[match["id"]] = (time, document)
        elif match["id"] in requests:
            start, request = requests.pop(match["id"])
            instance = INSTANCE.search(match["thread"])
            waiting, server, count = _durations(record)
            yield Call(
                method=str(request.get("method")),
                request_id=match["id"],
                subject=instance["instance"] if instance else _vm(request, document),
                start=start,
                total=time - start,
                waiting=waiting,
                server=server,
                requests=count,
                error=_error(document),
            )


def _of_cpi(text: str) -> Iterator[Call]:
    """Yield the calls in a log of the CPI. The last line of a call has its durations."""
    lines: dict[tuple[str, str], list[str]] = {}
    for match in CPI_LINE.finditer(text):
        call = (match["method"], match["id"])
        lines.setdefault(call, []).append(match["text"])
        if REQUESTS.search(match["text"]):
            waiting, server, count = _durations("\n".join(lines.pop(call)))
            total = waiting + server
            start = _seconds(match["time"]) - total
            yield Call(*call, "-", start, total, waiting, server, count, "")


def _captured(file: Path) -> Iterator[Call]:
    """Yield the calls in a capture. A capture begins when the call has its throttle slot, so nothing was waited for."""
    try:
        document = json.loads(file.read_text("utf-8"))
        for call in document["calls"]:
            times, interactions = call["clock"]["times"], call["interactions"]
            yield Call(
                method=call["stdin"]["method"],
                request_id=str((call["stdin"].get("context") or {}).get("request_id", "-")),
                subject=_vm(call["stdin"], call["stdout"]),
                start=times[0] if times else _seconds(call["at"]),
                total=call["duration_ms"] / 1000,
                waiting=0.0,
                server=sum(row["ms"] for row in interactions) / 1000,
                requests=len(interactions),
                error=_error(call["stdout"]),
            )
    except (ValueError, KeyError, TypeError) as error:
        raise UtilError(f"{file} is not a capture: {error!r}") from None


def _durations(text: str) -> tuple[float, float, int]:
    """Return the seconds until a throttle slot was free, the seconds of the action, and its number of requests."""
    waited = sum(float(match["seconds"]) for match in SLOT.finditer(text))
    actions = list(REQUESTS.finditer(text))
    return waited, sum(float(row["seconds"]) for row in actions), sum(int(row["requests"]) for row in actions)


def _vm(request: dict[str, Any], response: dict[str, Any]) -> str:
    """Return the CID of the VM that a call is about, or "-"."""
    method, result, arguments = request.get("method"), response.get("result"), request.get("arguments") or []
    if method == "create_vm" and isinstance(result, list) and result:
        return str(result[0])
    return str(arguments[0]) if method in CALLS_ON_A_VM and arguments else "-"


def _error(response: dict[str, Any]) -> str:
    return str((response.get("error") or {}).get("message", ""))


def _first_document(text: str) -> dict[str, Any]:
    """Return the JSON object at the start of a string, or an empty one."""
    try:
        document, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _seconds(timestamp: str) -> float:
    """Return the seconds since the epoch of a time in ISO 8601. Directors write theirs in UTC, without a zone."""
    time = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    return time.replace(tzinfo=time.tzinfo or timezone.utc).timestamp()
