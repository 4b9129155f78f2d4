"""The demo without a server: the real bin/cpi over real mTLS, against a recording."""

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
def played() -> demo_server.Session:
    return demo_server.Session(fixtures.load("demo", "session"))


@needs_openssl
def test_the_demo_replays_the_whole_recording_and_says_so():
    demo = subprocess.run(
        [sys.executable, "-m", "tests.host.demo", "--replay"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    exchanges = sum(len(call["interactions"]) for call in fixtures.load("demo", "session")["calls"])
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stdout.startswith("REPLAY. There is no server and no VM")
    assert demo.stdout.endswith(f"This was a replay of {exchanges} recorded exchanges.\n")
    assert "The guest reported what it was told." in demo.stdout


def test_where_no_test_host_is_possible_the_demo_is_a_replay(monkeypatch, capsys):
    monkeypatch.setattr(demo, "possible", lambda: "there is no root")
    monkeypatch.setattr(demo, "show_recording", lambda scratch: 0)
    for name in ("SERVER_URL", "LXD_URL"):
        monkeypatch.delenv(name, raising=False)
    assert demo.main([]) == 0
    assert "No test host is possible here: there is no root. So this will be a replay." in capsys.readouterr().out


@needs_openssl
def test_a_client_without_the_certificate_is_told_nothing(played, tmp_path):
    with demo_server.serving(played, tmp_path) as served:
        context = ssl.create_default_context(cafile=served.tls_server_cert)
        context.check_hostname = False
        with pytest.raises(OSError):
            urllib.request.urlopen(f"{served.url}/1.0", context=context, timeout=5)
    assert played.played == 0


def test_what_is_called_otherwise_today_is_so_in_the_answers(played):
    first = played.interactions[0]["request"]
    assert played.answer(first) == played.interactions[0]["response"]
    posts = [(at, one) for at, one in enumerate(played.interactions) if one["request"]["path"] == "/1.0/images/aliases"]
    played.played, recorded = posts[0]
    asked = json.loads(json.dumps(recorded["request"]).replace(recorded["request"]["body"]["target"], "ab" * 32))
    assert played.answer(asked)["status"] == 201
    assert played.now(recorded["request"]["body"]["target"]) == "ab" * 32


def test_another_request_is_refused_with_the_difference(played):
    asked = copy.deepcopy(played.interactions[0]["request"])
    asked["query"]["project"] = "another"
    answer = played.answer(asked)
    assert (answer["status"], played.played) == (400, 0)
    assert '+  "project": "another"' in answer["body"]["error"]
    assert played.answer(played.interactions[0]["request"])["status"] == 400, "from then on nothing is answered"


def test_a_name_that_stands_for_two_is_refused(played):
    at = next(at for at, one in enumerate(played.interactions) if one["request"]["path"] == "/1.0/instances")
    played.played = at
    asked = copy.deepcopy(played.interactions[at]["request"])
    volume = asked["body"]["devices"]["config"]
    volume["source"] = "vol-c-00000000-0000-8000-8000-000000000000"
    assert played.answer(asked)["status"] == 400
