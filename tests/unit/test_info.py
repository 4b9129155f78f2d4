"""BOSH asks `info` before every single call, so it may cost little more than starting Python. Only what it imports is
tested, never the time it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
INFO = b'{"method":"info","arguments":[],"context":{"director_uuid":"d","request_id":"cpi-1"},"api_version":1}'
MAIN = """
import os, sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
from bosh_lxd_cpi.protocol.cli import main
main(sys.argv[2:], os.environ)
print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""


def imported_for(request: bytes) -> set[str]:
    """The modules that a call adds to those that Python itself starts with."""
    done = subprocess.run(
        [sys.executable, "-B", "-I", "-S", "-c", MAIN, HOME], input=request, capture_output=True, check=True
    )
    assert json.loads(done.stdout)["error"] is None
    return set(done.stderr.decode().splitlines()[-1].split())


def test_info_imports_nothing_but_its_own_four_modules():
    assert imported_for(INFO) - {"_json"} == {
        "__future__",
        "bosh_lxd_cpi",
        "bosh_lxd_cpi.cli",
        "bosh_lxd_cpi.errors",
        "bosh_lxd_cpi.rpc",
    }


def test_calculating_cloud_properties_imports_neither_libraries_nor_configuration():
    request = b'{"method":"calculate_vm_cloud_properties","arguments":[{"cpu":1,"ram":512,"ephemeral_disk_size":1024}]}'
    heavy = {"urllib3", "yaml", "ssl", "socket", "logging", "dataclasses", "bosh_lxd_cpi.config", "bosh_lxd_cpi.lxd"}
    assert imported_for(request) & heavy == set()


def test_the_answer_that_is_written_out_is_the_one_that_the_method_gives():
    from bosh_lxd_cpi.protocol import methods, rpc

    assert json.loads(rpc.INFO) == {"result": methods.info(), "error": None, "log": ""}


@pytest.mark.parametrize(
    "request_bytes",
    [
        INFO,
        b'{"method":"info"}',
        b' \n{"method":"info","arguments":null,"context":null}\n',
        b'{"method":"info","arguments":["unexpected"],"context":{},"api_version":3}',
    ],
)
def test_info_answers_both_callers_in_every_version(request_bytes):
    from bosh_lxd_cpi.protocol import cli

    answer = json.loads(cli.respond(request_bytes, ["--nonsense"], {}))
    assert answer["result"] == {"stemcell_formats": ["openstack-qcow2", "openstack-raw"], "api_version": 2}
