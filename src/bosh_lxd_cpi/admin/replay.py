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
    parser = argparse.ArgumentParser(
        prog="bin/replay",
        description="Replays the calls of captures or fixtures without a server and shows where the requests or the"
        " responses of this CPI differ from the recorded ones.",
        epilog="Exit status: 0 if nothing differs, 1 if something differs, 2 if a file is not a capture.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a capture or a fixture")
    parser.add_argument("--stemcell", default="", metavar="IMAGE", help="the image that create_stemcell uploaded")
    parser.add_argument("--log", action="store_true", help="print the log of each call")
    options = parser.parse_args(argv)
    return cli.Program("replay").run(
        lambda: max(_replay_file(path, stemcell=options.stemcell, show_log=options.log) for path in options.files)
    )


def _replay_file(path: Path, *, stemcell: str, show_log: bool) -> int:
    document = load(path)
    server = document["recorded"].get("server") or {}
    print(f"{path}: {server.get('kind', 'unknown server')} {server.get('version', '')}, {document['recorded']['at']}")
    status = 0
    for call in document["calls"]:
        outcome = play(call, stemcell=stemcell)
        verdict = "FAIL" if outcome.differences else "ok  "
        print(f"  {verdict}  {call['stdin']['method']}, {len(call['interactions'])} requests")
        for text in [*outcome.differences, *outcome.notes, *([outcome.log] if show_log else [])]:
            print("\n".join(f"        {line}" for line in text.splitlines()))
        status = max(status, int(bool(outcome.differences)))
    return status
