"""Runs scenarios against a real server and collects the captures of the CPI in a fixture."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bosh_lxd_cpi.protocol.capture import describe
from bosh_lxd_cpi.recording.document import FORMAT
from bosh_lxd_cpi.recording.player import requests_match
from bosh_lxd_cpi.recording.redaction import Redactor
from tests.host import demo, server
from tests.host.director import CallError, Director, configuration
from tests.replay.demo_server import create_server_certificate
from tests.replay.scenarios import IMAGE, JAMMY, SCENARIOS

ROOT = Path(__file__).resolve().parents[2]

MAX_POLLS = 2
"""Of consecutive polls of an operation, the first and the last are recorded."""


class World(Director):
    """The environment of a scenario: a server, a director whose calls are captured, and a stemcell."""

    def __init__(self, facts: server.Facts, directory: Path) -> None:
        super().__init__(configuration(facts), directory, prefix=server.netns_command(facts.name))
        self.facts, self.recording = facts, True
        self.captures: list[Path] = []
        self.stemcell = ""
        self.server = describe(json.loads(server.client(facts.name, "query", "/1.0").stdout))

    def environment(self) -> dict[str, str]:
        """Return the environment of a call, with a new directory for its capture if it is recorded."""
        if not self.recording:
            return super().environment()
        self.captures.append(self.directory / f"call-{len(self.captures):03}")
        return {**super().environment(), "BOSH_LXD_CPI_CAPTURE": str(self.captures[-1])}

    def call_fails(self, method: str, *arguments: Any) -> CallError:
        """Return the error of a call that must fail."""
        try:
            result = self.call(method, *arguments)
        except CallError as error:
            return error
        raise AssertionError(f"{method} should fail, but returned {result}")

    @contextlib.contextmanager
    def configured(self, section: str = "", **properties: Any) -> Iterator[None]:
        """Change properties within a context."""
        before = self.config
        changed = {section: {**before.get(section, {}), **properties}} if section else properties
        self.config = {**before, **changed}
        yield
        self.config = before

    def client(self, *words: str) -> str:
        """Run the server's own client and return its output."""
        return server.client(self.facts.name, *words, "--project", self.facts.project).stdout

    def client_command(self, *words: str) -> list[str]:
        return server.client_command(self.facts.name, *words, "--project", self.facts.project)

    def untrusted_certificate(self) -> tuple[str, str]:
        """Return a certificate that the server does not trust, and its key."""
        certificate, key = self.directory / "untrusted.crt", self.directory / "untrusted.key"
        create_server_certificate(certificate, key)
        return certificate.read_text(encoding="utf-8"), key.read_text(encoding="utf-8")

    @contextlib.contextmanager
    def daemon_stopped(self, *, seconds: float) -> Iterator[None]:
        """Stop the server, and start it again after some seconds."""
        server.stop_daemon(self.facts.name)
        timer = threading.Timer(seconds, server.start_daemon, [self.facts.name])
        timer.start()
        yield
        timer.join()

    def clean_up(self) -> None:
        """Delete the VMs and volumes that the CPI created. The stemcell is shared."""

        def names(*words: str) -> list[str]:
            listed = json.loads(self.client(*words, "--format", "json"))
            return [item["name"] for item in listed if item["name"].startswith(("vm-", "vol-"))]

        for name in names("list"):
            self.client("delete", "--force", name)
        for name in names("storage", "volume", "list", self.facts.pool):
            if "/" not in name:
                self.client("storage", "volume", "delete", self.facts.pool, name)


@contextlib.contextmanager
def worlds(facts: server.Facts, directory: Path) -> Iterator[Any]:
    """Yield a function that creates an environment on this server. All of them share a stemcell."""
    setup = World(facts, directory)
    setup.recording = False
    stemcell = setup.call("create_stemcell", IMAGE, JAMMY)

    def create_world(name: str) -> World:
        (directory / name).mkdir()
        world = World(facts, directory / name)
        world.stemcell = stemcell
        return world

    yield create_world
    setup.call("delete_stemcell", stemcell)


def record(name: str, world: World) -> dict[str, Any]:
    """Run a scenario and return the fixture of its captures."""
    try:
        SCENARIOS[name](world)
    finally:
        world.clean_up()
    captures = [
        json.loads(path.read_text(encoding="utf-8")) for directory in world.captures for path in directory.iterdir()
    ]
    assert len(captures) == len(world.captures), f"{name}: a call wrote no capture"
    shutil.rmtree(world.directory)
    return {
        "format": FORMAT,
        "scenario": name,
        "recorded": {**captures[0]["recorded"], "server": world.server},
        "synthetic": None,
        "calls": calls_of(captures),
    }


def record_demo() -> dict[str, Any]:
    """Run the demo on a real Incus and return the fixture of its calls and of the guest's report."""
    reported: dict[str, Any] = {}

    class RecordingGuest(demo.Guest):
        def first_report(self, vm: str, progress: Any) -> dict[str, Any]:
            reported["report"] = super().first_report(vm, progress)
            return reported["report"]

        def find(self, path: str) -> str:
            reported["found"] = super().find(path)
            return reported["found"]

    with tempfile.TemporaryDirectory() as scratch, demo.test_host("incus", keep=False) as place:
        captures = Path(scratch) / "captures"
        config = {**place.config, "capture": {"path": str(captures)}}
        recording_target = place._replace(config=config, guest=RecordingGuest(place))
        assert demo.show(recording_target, Path(scratch)) == 0
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
        "guest": Redactor([config]).redact(reported),
    }


def calls_of(captures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the calls of captures without the number of polls, which depends on the duration of operations."""
    calls = [call for capture in captures for call in capture["calls"]]
    return [{**call, "interactions": collapsed(call["interactions"])} for call in calls]


def collapsed(interactions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the interactions with at most two consecutive polls of an operation, the first and the last."""
    result: list[dict[str, Any]] = []
    for interaction in interactions:
        request = interaction["request"]
        is_poll = request["path"].startswith("/1.0/operations/")
        previous = [poll for poll in result[-MAX_POLLS:] if is_poll and requests_match(request, poll["request"])]
        if len(previous) == MAX_POLLS:
            result.pop()
        result.append(interaction)
    return result
