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
"""Number of recorded polls of an operation: the first and the last."""


class RecordingDirector(Director):
    """The director of a scenario. It captures its calls. `stemcell` is the CID of a stemcell on the server."""

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
        new = {section: {**before.get(section, {}), **properties}} if section else properties
        self.config = {**before, **new}
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
            resources = json.loads(self.client(*words, "--format", "json"))
            return [item["name"] for item in resources if item["name"].startswith(("vm-", "vol-"))]

        for name in names("list"):
            self.client("delete", "--force", name)
        for name in names("storage", "volume", "list", self.facts.pool):
            if "/" not in name:
                self.client("storage", "volume", "delete", self.facts.pool, name)


@contextlib.contextmanager
def directors(facts: server.Facts, directory: Path) -> Iterator[Any]:
    """Yield a function that creates a director for this server. All directors share a stemcell."""
    setup = RecordingDirector(facts, directory)
    setup.recording = False
    stemcell = setup.call("create_stemcell", IMAGE, JAMMY)

    def create_director(name: str) -> RecordingDirector:
        (directory / name).mkdir()
        director = RecordingDirector(facts, directory / name)
        director.stemcell = stemcell
        return director

    yield create_director
    setup.call("delete_stemcell", stemcell)


def record(name: str, director: RecordingDirector) -> dict[str, Any]:
    """Run a scenario and return the fixture of its captures."""
    try:
        SCENARIOS[name](director)
    finally:
        director.clean_up()
    captures = [
        json.loads(path.read_text(encoding="utf-8")) for directory in director.captures for path in directory.iterdir()
    ]
    assert len(captures) == len(director.captures), f"{name}: a call wrote no capture"
    shutil.rmtree(director.directory)
    return {
        "format": FORMAT,
        "scenario": name,
        "recorded": {**captures[0]["recorded"], "server": director.server},
        "synthetic": None,
        "calls": calls_of(captures),
    }


def record_demo() -> dict[str, Any]:
    """Run the demo on a real Incus and return the fixture of its calls and of the guest's report."""
    recorded_guest: dict[str, Any] = {}

    class RecordingGuest(demo.Guest):
        def first_report(self, vm: str, progress: Any) -> dict[str, Any]:
            recorded_guest["report"] = super().first_report(vm, progress)
            return recorded_guest["report"]

        def find(self, path: str) -> str:
            recorded_guest["found"] = super().find(path)
            return recorded_guest["found"]

    with tempfile.TemporaryDirectory() as scratch, demo.test_host("incus", keep=False) as target:
        captures = Path(scratch) / "captures"
        config = {**target.config, "capture": {"path": str(captures)}}
        target_with_capture = target._replace(config=config, guest=RecordingGuest(target))
        assert demo.show(target_with_capture, Path(scratch)) == 0
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
        "guest": Redactor([config]).redact(recorded_guest),
    }


def calls_of(captures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the calls of captures without the number of polls, which depends on the duration of operations."""
    calls = [call for capture in captures for call in capture["calls"]]
    return [{**call, "interactions": without_repeated_polls(call["interactions"])} for call in calls]


def without_repeated_polls(interactions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the interactions with the first and the last of consecutive polls of an operation."""
    result: list[dict[str, Any]] = []
    for interaction in interactions:
        request = interaction["request"]
        is_poll = request["path"].startswith("/1.0/operations/")
        previous = [poll for poll in result[-MAX_POLLS:] if is_poll and requests_match(request, poll["request"])]
        if len(previous) == MAX_POLLS:
            result.pop()
        result.append(interaction)
    return result
