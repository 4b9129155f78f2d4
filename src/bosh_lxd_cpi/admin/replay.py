"""Replay captured calls without a server, and show how this CPI differs from the recorded one."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bosh_lxd_cpi.admin import cli
from bosh_lxd_cpi.admin.output import FAIL, OK, Terminal, count
from bosh_lxd_cpi.protocol import dispatch, rpc
from bosh_lxd_cpi.recording.document import load
from bosh_lxd_cpi.recording.player import Mismatch, Player, ReplayClock, format_sorted, request_line
from bosh_lxd_cpi.runtime.log import Log


class Outcome(NamedTuple):
    """The result of a replayed call."""

    response: Any
    """The response to BOSH, or None after a Mismatch."""
    differences: list[str]
    """How the requests or the response differ from the recording, the wording of an error excepted."""
    notes: list[str]
    """Differences in the wording of an error."""
    log: str


def play(call: Mapping[str, Any], *, stemcell: str = "") -> Outcome:
    """Replay a recorded call. `stemcell` is the path that replaces the image of a recorded create_stemcell."""
    clock = ReplayClock(**call["clock"])
    player = Player(call["interactions"], clock)
    response: Any = None
    log = ""
    with contextlib.suppress(Mismatch):
        response, log = run(call, clock, player, stemcell=stemcell)
    if player.mismatch:  # a rollback does not raise it
        return Outcome(None, [str(player.mismatch)], [], "")
    differences = [
        f"recorded request {interaction['n']} was not sent: {request_line(interaction['request'])}"
        for interaction in player.remaining()
    ]
    return _compare(response, call["stdout"], differences, log)


def run(
    call: Mapping[str, Any], clock: ReplayClock, player: Player, *, stemcell: str = ""
) -> tuple[dict[str, Any], str]:
    """Run a recorded call with the player as the server. Return the response and the log. Raises Mismatch."""
    request = rpc.Request(**call["stdin"])
    if stemcell and request.method == "create_stemcell":
        request.arguments = [stemcell, *request.arguments[1:]]
    stream = io.StringIO()
    log = Log(request.method, stream=stream)
    with tempfile.TemporaryDirectory() as directory:
        config_path = Path(directory, "cpi.json")
        config = {**call["config"], "throttle_config": {"path": str(Path(directory, "locks"))}}
        config_path.write_text(json.dumps(config), encoding="utf-8")
        try:
            result = dispatch.call(
                request, config_path=str(config_path), environ={}, log=log, clock=clock, transport=player
            )
            response = rpc.success(result)
        except Mismatch:
            raise
        except Exception as error:  # noqa: BLE001  BOSH needs a response to every request: see protocol/cli.py
            response = rpc.failure(error)
    return json.loads(response), stream.getvalue()


def _compare(response: dict[str, Any], recorded: dict[str, Any], differences: list[str], log: str) -> Outcome:
    if response == recorded:
        return Outcome(response, differences, [], log)
    lines = difflib.unified_diff(
        format_sorted(recorded).splitlines(), format_sorted(response).splitlines(), "recorded", "now", lineterm=""
    )
    diff = "\n".join(lines)
    if _without_message(response) == _without_message(recorded):
        return Outcome(response, differences, [f"the wording of the error differs:\n{diff}"], log)
    return Outcome(response, [*differences, f"the response differs from the recording:\n{diff}"], [], log)


def _without_message(response: dict[str, Any]) -> dict[str, Any]:
    error = response["error"]
    return {**response, "error": error and {key: value for key, value in error.items() if key != "message"}}


def main(argv: list[str]) -> int:
    """Replay files. Return 0 if nothing differs, 1 if something differs, 2 for a file that is not a capture."""
    parser = cli.output_parser(
        "replay",
        description="Replays the calls of captures or fixtures without a server and shows where the requests or the"
        " responses of this CPI differ from the recorded ones.",
        epilog="Exit status: 0 if nothing differs, 1 if something differs, 2 if a file is not a capture, 130"
        " after an interruption.",
        json_help="print an array of objects: one for each call",
        verbose_help="also print the log of each call",
        quiet_help="only print the calls that differ",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a capture or a fixture")
    parser.add_argument("--stemcell", default="", metavar="IMAGE", help="the image that create_stemcell uploaded")
    options = parser.parse_args(argv)
    return cli.Program("replay").run(lambda: _replay(options))


def _replay(options: argparse.Namespace) -> int:
    terminal, documents = Terminal(cut=not options.verbose), []
    for path in options.files:
        document = load(path)
        server = document["recorded"].get("server") or {}
        title = (
            f"{path}: {server.get('kind', 'unknown server')} {server.get('version', '')}, {document['recorded']['at']}"
        )
        if not (options.json or options.quiet):
            print(terminal.cut(title))
        for call in document["calls"]:
            outcome = play(call, stemcell=options.stemcell)
            documents.append(_as_object(path, call, outcome))
            if not options.json and (outcome.differences or not options.quiet):
                _print_outcome(documents[-1], outcome, terminal, show_log=options.verbose)
    if options.json:
        print(json.dumps(documents, indent=1))
    failed = sum(document["status"] == FAIL for document in documents)
    if not (options.json or options.quiet):
        print(f"{len(documents) - failed} ok, {failed} failed")
    return cli.PROBLEMS_FOUND if failed else cli.OK


def _as_object(path: Path, call: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    return {
        "file": str(path),
        "method": call["stdin"]["method"],
        "requests": len(call["interactions"]),
        "status": FAIL if outcome.differences else OK,
        "differences": outcome.differences,
        "notes": outcome.notes,
    }


def _print_outcome(document: Mapping[str, Any], outcome: Outcome, terminal: Terminal, *, show_log: bool) -> None:
    print(terminal.status_line(document["status"], f"{document['method']}, {count(document['requests'], 'request')}"))
    for text in [*outcome.differences, *outcome.notes, *([outcome.log] if show_log else [])]:
        print("\n".join(f"      {line}" for line in text.splitlines()))
