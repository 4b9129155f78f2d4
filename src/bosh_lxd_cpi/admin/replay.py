"""Play captured calls back, without a server, and tell where what we do differs from what was recorded."""

from __future__ import annotations

import argparse
import difflib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.protocol import dispatch, rpc
from bosh_lxd_cpi.recording.cassette import Mismatch, Player, ReplayClock, line, pretty
from bosh_lxd_cpi.runtime.log import Log

FORMAT = 1


class Outcome(NamedTuple):
    """What came of a call that was played back."""

    answer: Any
    """What BOSH would have been given."""
    faults: list[str]
    """How the requests, or the answer, differ from the recording; the wording of an error does not count."""
    notes: list[str]
    """Differences in wording."""
    log: str


def load(path: Path) -> dict[str, Any]:
    """A capture or fixture. Raises ConfigError for a file that is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise errors.ConfigError(f"{path} cannot be read: {failure}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT or "calls" not in document:
        raise errors.ConfigError(f"{path} is not a capture of format {FORMAT}")
    return document


def play(call: Mapping[str, Any], *, stemcell: str = "") -> Outcome:
    """Make a recorded call again; `stemcell` stands in for the file that a create_stemcell was given."""
    clock = ReplayClock(**call["clock"])
    player = Player(call["interactions"], clock)
    try:
        answer, log = answered(call, clock, player, stemcell=stemcell)
    except Mismatch as failure:
        return Outcome(None, [str(failure)], [], "")
    faults = [f"recorded as {one['n']}, and not asked for: {line(one['request'])}" for one in player.rest()]
    return _compare(answer, call["stdout"], faults, log)


def answered(
    call: Mapping[str, Any], clock: ReplayClock, player: Player, *, stemcell: str = ""
) -> tuple[dict[str, Any], str]:
    """What BOSH is answered when the player stands in for the server, and what is logged. Raises Mismatch."""
    request = rpc.Request(**call["stdin"])
    if stemcell and request.method == "create_stemcell":
        request.arguments = [stemcell, *request.arguments[1:]]
    written = io.StringIO()
    log = Log(request.method, stream=written)
    with tempfile.TemporaryDirectory() as scratch:
        file = os.path.join(scratch, "cpi.json")
        with Path(file).open("w", encoding="utf-8") as opened:
            json.dump({**call["config"], "throttle_config": {"path": os.path.join(scratch, "locks")}}, opened)
        try:
            answer = rpc.success(
                dispatch.call(request, config_path=file, environ={}, log=log, clock=clock, transport=player)
            )
        except Mismatch:
            raise
        except Exception as failure:  # noqa: BLE001  as cli does
            answer = rpc.failure(failure)
    return json.loads(answer), written.getvalue()


def _compare(answer: dict[str, Any], recorded: dict[str, Any], faults: list[str], log: str) -> Outcome:
    if answer == recorded:
        return Outcome(answer, faults, [], log)
    diff = "\n".join(
        difflib.unified_diff(
            pretty(recorded).splitlines(), pretty(answer).splitlines(), "recorded", "answered", lineterm=""
        )
    )
    if _without_wording(answer) == _without_wording(recorded):
        return Outcome(answer, faults, [f"the error has other words:\n{diff}"], log)
    return Outcome(answer, [*faults, f"the answer is not the recorded one:\n{diff}"], [], log)


def _without_wording(answer: dict[str, Any]) -> dict[str, Any]:
    error = answer["error"]
    return {**answer, "error": error and {key: value for key, value in error.items() if key != "message"}}


def main(argv: list[str]) -> int:
    """Play files back; 0 when nothing differs, 1 when something does, 2 for a file that is no capture."""
    parser = argparse.ArgumentParser(
        prog="bin/replay",
        description="Make the calls in captures or fixtures again,"
        " offline, and show where what this CPI does differs from what was recorded.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--stemcell", default="", metavar="IMAGE", help="the image that a create_stemcell uploaded")
    parser.add_argument("--log", action="store_true", help="show what the calls log")
    asked = parser.parse_args(argv)
    try:
        return max([_show(path, stemcell=asked.stemcell, show_log=asked.log) for path in asked.files])
    except errors.CpiError as failure:
        print(hints.message(failure))
        return 2


def _show(path: Path, *, stemcell: str, show_log: bool) -> int:
    document = load(path)
    server = document["recorded"].get("server") or {}
    print(f"{path}: {server.get('kind', 'unknown server')} {server.get('version', '')}, {document['recorded']['at']}")
    status = 0
    for call in document["calls"]:
        outcome = play(call, stemcell=stemcell)
        verdict = "FAIL" if outcome.faults else "ok  "
        print(f"  {verdict}  {call['stdin']['method']}, {len(call['interactions'])} exchanges")
        for text in [*outcome.faults, *outcome.notes, *([outcome.log] if show_log else [])]:
            print("\n".join(f"        {row}" for row in text.splitlines()))
        status = status or int(bool(outcome.faults))
    return status
