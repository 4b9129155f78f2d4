"""Runs scenarios against a real server and keeps what the CPI captured of them."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

from bosh_lxd_cpi.protocol.capture import describe
from bosh_lxd_cpi.recording.document import FORMAT
from bosh_lxd_cpi.recording.player import requests_match
from bosh_lxd_cpi.recording.redaction import Redactor
from tests.host import demo, server
from tests.host.director import Director, Refused, configuration
from tests.replay.scenarios import IMAGE, JAMMY, SCENARIOS
from tests.replay.session import make_certificate

POLL_KEEPS = 2
"""Of a row of equal looks at an operation, the first and the last are kept."""


class World(Director):
    """What a scenario has: a server of its own, a director whose calls are captured, and a stemcell."""

    def __init__(self, facts: server.Facts, directory: Path) -> None:
        super().__init__(configuration(facts), directory, prefix=server.netns_command(facts.name))
        self.facts, self.recording = facts, True
        self.captures: list[Path] = []
        self.stemcell = ""
        self.server = describe(json.loads(server.client(facts.name, "query", "/1.0").stdout))

    def environment(self) -> dict[str, str]:
        """See `Director`; with the directory for this call's capture, if it is recorded."""
        if not self.recording:
            return super().environment()
        self.captures.append(self.directory / f"call-{len(self.captures):03}")
        return {**super().environment(), "BOSH_LXD_CPI_CAPTURE": str(self.captures[-1])}

    def refused(self, method: str, *arguments: Any) -> Refused:
        """What a call that must fail is refused with."""
        try:
            result = self.call(method, *arguments)
        except Refused as refused:
            return refused
        raise AssertionError(f"{method} should have been refused, and answered {result}")

    @contextlib.contextmanager
    def configured(self, section: str = "", **properties: Any) -> Iterator[None]:
        """With other properties for a while."""
        before = self.config
        changed = {section: {**before.get(section, {}), **properties}} if section else properties
        self.config = {**before, **changed}
        yield
        self.config = before

    def behind(self, *words: str) -> str:
        """Do something with the server's own client, behind the CPI's back."""
        return server.client(self.facts.name, *words, "--project", self.facts.project).stdout

    def behind_command(self, *words: str) -> list[str]:
        return server.client_command(self.facts.name, *words, "--project", self.facts.project)

    def stranger(self) -> tuple[str, str]:
        """A certificate that the server does not know, and its key."""
        certificate, key = self.directory / "stranger.crt", self.directory / "stranger.key"
        make_certificate(certificate, key)
        return certificate.read_text(encoding="utf-8"), key.read_text(encoding="utf-8")

    @contextlib.contextmanager
    def daemon_stopped(self, *, seconds: float) -> Iterator[None]:
        """The server refuses connections for so long, then starts."""
        server.stop_daemon(self.facts.name)
        waker = threading.Timer(seconds, server.start_daemon, [self.facts.name])
        waker.start()
        yield
        waker.join()

    def tidy(self) -> None:
        """Delete all that the CPI made, but the stemcell that is shared."""

        def names(*words: str) -> list[str]:
            listed = json.loads(self.behind(*words, "--format", "json"))
            return [one["name"] for one in listed if one["name"].startswith(("vm-", "vol-"))]

        for name in names("list"):
            self.behind("delete", "--force", name)
        for name in names("storage", "volume", "list", self.facts.pool):
            if "/" not in name:
                self.behind("storage", "volume", "delete", self.facts.pool, name)


@contextlib.contextmanager
def worlds(facts: server.Facts, directory: Path) -> Iterator[Any]:
    """A maker of worlds on a server, which share a stemcell."""
    preparing = World(facts, directory)
    preparing.recording = False
    stemcell = preparing.call("create_stemcell", IMAGE, JAMMY)

    def make(name: str) -> World:
        (directory / name).mkdir()
        world = World(facts, directory / name)
        world.stemcell = stemcell
        return world

    yield make
    preparing.call("delete_stemcell", stemcell)


def record(name: str, world: World) -> dict[str, Any]:
    """Run a scenario; the fixture that its captures make."""
    try:
        SCENARIOS[name](world)
    finally:
        world.tidy()
    captures = [json.loads(path.read_text(encoding="utf-8")) for place in world.captures for path in place.iterdir()]
    assert len(captures) == len(world.captures), f"{name}: a call was not captured"
    shutil.rmtree(world.directory)
    return {
        "format": FORMAT,
        "scenario": name,
        "recorded": {**captures[0]["recorded"], "server": world.server},
        "synthetic": None,
        "calls": calls_of(captures),
    }


def record_demo() -> dict[str, Any]:
    """Run the demo on a real Incus; the fixture of its calls, and what its guest reported."""
    told: dict[str, Any] = {}

    class Reporting(demo.Guest):
        def first_report(self, vm: str, progress: Any) -> dict[str, Any]:
            told["report"] = super().first_report(vm, progress)
            return told["report"]

        def find(self, path: str) -> str:
            told["found"] = super().find(path)
            return told["found"]

    with tempfile.TemporaryDirectory() as scratch, demo.test_host("incus", keep=False) as place:
        captures = Path(scratch) / "captures"
        config = {**place.config, "capture": {"path": str(captures)}}
        place = place._replace(config=config, recorded=Reporting(place))
        assert demo.show(place, Path(scratch)) == 0
        files = sorted(captures.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        documents = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    calls = calls_of(documents)
    calls[0]["stdin"]["arguments"][0] = "image"
    return {
        "format": FORMAT,
        "scenario": "session",
        "recorded": documents[0]["recorded"],
        "synthetic": None,
        "calls": calls,
        "guest": Redactor([config]).redact(told),
    }


def calls_of(captures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls of captures, without what only tells how long an operation took."""
    calls = [call for capture in captures for call in capture["calls"]]
    return [{**call, "interactions": collapsed(call["interactions"])} for call in calls]


def collapsed(interactions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the looks at an operation between the first and the last of a row."""
    kept: list[dict[str, Any]] = []
    for one in interactions:
        is_poll = one["request"]["path"].startswith("/1.0/operations/")
        row = [other for other in kept[-POLL_KEEPS:] if is_poll and requests_match(one["request"], other["request"])]
        if len(row) == POLL_KEEPS:
            kept.pop()
        kept.append(one)
    return kept
