"""The demo on a server of the operator. tests/replay/test_demo.py runs the whole demo against a recording."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.host import server
from tests.host.director import ROOT, Director
from tests.host.kinds import IDENTITIES

TARGET = """
import json, os, sys
from tests.host import demo
from tests.host.machine import HostError
try:
    target = demo.own_server({name: os.environ[f"SERVER_{name}"] for name in ("URL", "CLIENT_CERT", "CLIENT_KEY")})
except HostError as failure:
    sys.exit(str(failure))
print(json.dumps([target.config, target.ip, target.netmask, target.gateway]))
"""


def own_server(host: server.Facts, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run demo.own_server in the network of the host."""
    environ = {
        "SERVER_URL": host.url,
        "SERVER_CLIENT_CERT": host.client_cert,
        "SERVER_CLIENT_KEY": host.client_key,
        "SERVER_PROJECT_NAME": host.project,
        "SERVER_STORAGE_POOL_NAME": host.pool,
        **variables,
    }
    return subprocess.run(
        [*server.netns_command(host.name), sys.executable, "-c", TARGET],
        env={**os.environ, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.every_server
def test_finds_the_network_of_the_server(host, tmp_path):
    config, ip, netmask, gateway = json.loads(own_server(host).stdout)
    assert (ip, netmask, gateway) == ("10.245.0.253", "255.255.255.0", host.gateway)
    assert config["server"]["network_name"] == host.network
    director = Director(config, tmp_path, prefix=server.netns_command(host.name))
    assert director.call("has_vm", "vm-00000000-0000-4000-8000-000000000000") is False


@pytest.mark.every_server
def test_accepts_a_restricted_certificate(host, restricted_certificate, tmp_path):
    certificate, key = restricted_certificate["tls_client_cert"], restricted_certificate["tls_client_key"]
    restricted = {"SERVER_CLIENT_CERT": certificate, "SERVER_CLIENT_KEY": key}
    if host.kind not in IDENTITIES:  # they show a restricted certificate the network
        refused = own_server(host, **restricted)
        assert "set SERVER_NETWORK_NAME, and SERVER_SUBNET to its gateway" in refused.stderr
    subnet = {"SERVER_NETWORK_NAME": host.network, "SERVER_SUBNET": f"{host.gateway}/24"}
    config, ip, _, gateway = json.loads(own_server(host, **restricted, **subnet).stdout)
    assert (ip, gateway) == ("10.245.0.253", host.gateway)
    director = Director(config, tmp_path, prefix=server.netns_command(host.name))
    assert director.call("has_vm", "vm-00000000-0000-4000-8000-000000000000") is False


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"SERVER_CLIENT_CERT": "/absent"}, "SERVER_CLIENT_CERT is /absent, which is not a file"),
        ({"SERVER_NETWORK_NAME": "n", "SERVER_SUBNET": "10.245.0.x/24"}, "SERVER_SUBNET must be an address with"),
        ({"SERVER_CLIENT_CERT": __file__, "SERVER_CLIENT_KEY": __file__}, "tls_client_cert"),
        ({"SERVER_URL": "https://127.0.0.1:1"}, "cannot connect to https://127.0.0.1:1"),
    ],
    ids=["no certificate", "subnet", "invalid certificate", "wrong URL"],
)
def test_reports_wrong_variables(host, variables, message):
    done = own_server(host, **variables)
    assert message in done.stderr and "Traceback" not in done.stderr
