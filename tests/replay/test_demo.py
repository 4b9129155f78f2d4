"""The demo without a server: the real bin/cpi over mTLS against a recording."""

from __future__ import annotations

import copy
import json
import shutil
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.host import demo
from tests.replay import demo_server, fixtures

ROOT = Path(__file__).resolve().parents[2]
needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command for certificates")


@pytest.fixture
def session() -> demo_server.Session:
    return demo_server.Session(fixtures.load("demo", "session"))


@needs_openssl
def test_demo_replays_the_whole_recording():
    demo = subprocess.run(
        [sys.executable, "-m", "tests.host.demo", "--replay"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    exchanges = sum(len(call["interactions"]) for call in fixtures.load("demo", "session")["calls"])
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stdout.startswith("REPLAY. There is no server and no VM")
    assert demo.stdout.endswith(f"The demo replayed {exchanges} recorded exchanges.\n")
    assert "The report of the guest matches its settings." in demo.stdout


def test_demo_is_a_replay_without_a_test_host(monkeypatch, capsys):
    monkeypatch.setattr(demo, "unsupported_reason", lambda: "there is no root")
    monkeypatch.setattr(demo, "show_recording", lambda scratch: 0)
    for name in ("SERVER_URL", "LXD_URL"):
        monkeypatch.delenv(name, raising=False)
    assert demo.main([]) == 0
    output = capsys.readouterr().out
    assert "This machine cannot run a test host: there is no root. The demo uses a recording instead." in output


@needs_openssl
def test_rejects_a_client_without_certificate(session, tmp_path):
    with demo_server.serving(session, tmp_path) as settings:
        context = ssl.create_default_context(cafile=settings.tls_server_cert)
        context.check_hostname = False
        with pytest.raises(OSError):
            urllib.request.urlopen(f"{settings.url}/1.0", context=context, timeout=5)
    assert session.played == 0


def test_responses_contain_the_current_values(session):
    first = session.interactions[0]["request"]
    assert session.respond(first) == session.interactions[0]["response"]
    aliases = [
        (index, interaction)
        for index, interaction in enumerate(session.interactions)
        if interaction["request"]["path"] == "/1.0/images/aliases"
    ]
    session.played, recorded = aliases[0]
    request = json.loads(json.dumps(recorded["request"]).replace(recorded["request"]["body"]["target"], "ab" * 32))
    assert session.respond(request)["status"] == 201
    assert session.with_current_values(recorded["request"]["body"]["target"]) == "ab" * 32


def test_responds_to_another_request_with_the_difference(session):
    request = copy.deepcopy(session.interactions[0]["request"])
    request["query"]["project"] = "another"
    response = session.respond(request)
    assert (response["status"], session.played) == (400, 0)
    assert '+  "project": "another"' in response["body"]["error"]
    assert session.respond(session.interactions[0]["request"])["status"] == 400, "all later requests fail"


def test_rejects_two_values_for_one_recorded_value(session):
    index = next(
        index
        for index, interaction in enumerate(session.interactions)
        if interaction["request"]["path"] == "/1.0/instances"
    )
    session.played = index
    request = copy.deepcopy(session.interactions[index]["request"])
    volume = request["body"]["devices"]["config"]
    volume["source"] = "vol-c-00000000-0000-8000-8000-000000000000"
    assert session.respond(request)["status"] == 400
