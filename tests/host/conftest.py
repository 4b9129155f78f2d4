"""Fixtures: real servers. Each kind starts once per run. A test deletes all resources that it creates."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bosh_lxd_cpi.lxd.transport import fingerprint
from tests.host import kinds, server
from tests.host.director import Director, configuration
from tests.host.fault_environment import FaultEnvironment
from tests.host.guest import build, report
from tests.host.kinds import IDENTITIES, KINDS, LIKE, PACKAGED
from tests.host.proxy import Proxy
from tests.support.certificates import create_certificate

KINDS_OF = {
    "test_identities.py": IDENTITIES,
    "test_image_sync.py": ("lxd6",),
    "test_recordings.py": PACKAGED,
}
"""Tests for some kinds of servers only."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", action="append", choices=KINDS, help="run every host test on this kind of server only")
    parser.addoption("--all-servers", action="store_true", help="run every host test on every kind of server")
    parser.addoption(
        "--hosts", default="test", help="prefix of the names of the test hosts; concurrent runs need different prefixes"
    )
    parser.addoption(
        "--write-docs", action="store_true", help="write the generated pages in docs instead of checking them"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that use `host` run on Incus 6.0; those marked `every_server`, or all with --all-servers, on each kind.

    The marker `only(kind, ...)` limits a test to these kinds, and to those that are like them. --server selects the
    kinds instead, also those of clusters.
    """
    selected = metafunc.config.getoption("--server")
    if "host" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("only")
        every_kind = (
            selected
            or metafunc.config.getoption("--all-servers")
            or metafunc.definition.get_closest_marker("every_server")
        )
        kinds = [kind for kind in selected or PACKAGED if not only or kind in only.args or LIKE.get(kind) in only.args]
        metafunc.parametrize("host", kinds if every_kind else kinds[:1], indirect=True, scope="session")
    if "cluster" in metafunc.fixturenames:
        kinds = selected or metafunc.module.SERVERS_OF_CLUSTERS
        metafunc.parametrize("cluster", kinds, indirect=True, scope="module")
    if "default_host" in metafunc.fixturenames:
        metafunc.parametrize("default_host", selected or ("incus", "lxd"), indirect=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the tests of servers that are not selected."""
    kinds = KINDS_OF.get(collection_path.name, KINDS)
    return None if set(kinds) & set(config.getoption("--server") or PACKAGED) else True


def pytest_configure() -> None:
    """Stop the servers when the run is terminated. A background run continues to ignore signals.

    SIG_IGN would be inherited by the programs that the tests interrupt, a handler is not.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the test that checks the output of all calls last."""
    items.sort(key=lambda item: item.name == "test_no_output_of_the_run_contains_secrets")


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Iterator[server.Facts]:
    """A server of the requested kind."""
    with server.temporary_host(request.param, name=f"{request.config.getoption('--hosts')}-{request.param}") as facts:
        yield facts


@pytest.fixture(scope="session")
def guest_stemcell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The stemcell of the guest: path of the image and cloud_properties."""
    import yaml

    directory = build.build(tmp_path_factory.mktemp("guest"))
    manifest = yaml.safe_load((directory / "stemcell.MF").read_text(encoding="utf-8"))
    return {"image": str(directory / "image"), "properties": manifest["cloud_properties"]}


@pytest.fixture(scope="session")
def stemcell_cids(
    host: server.Facts, guest_stemcell: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Stemcell CIDs on this server by stemcell line: the same image, for BIOS (jammy) and for UEFI (noble)."""
    importer = Director(configuration(host), tmp_path_factory.mktemp("import"), prefix=server.netns_command(host.name))
    return {
        line: importer.call(
            "create_stemcell",
            guest_stemcell["image"],
            {**guest_stemcell["properties"], "name": f"bosh-openstack-kvm-ubuntu-{line}"},
        )
        for line in ("jammy", "noble")
    }


@pytest.fixture(scope="module")
def env(host: server.Facts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultEnvironment]:
    """A stemcell and a VM on the server, and a proxy in front of it."""
    directory = tmp_path_factory.mktemp("env")
    with Proxy(directory, host) as proxy:
        env = FaultEnvironment(host, directory, proxy)
        yield env
        env.close()


@pytest.fixture
def cpi(host: server.Facts, tmp_path: Path) -> Director:
    """A director with a configuration for the server."""
    return Director(configuration(host), tmp_path, prefix=server.netns_command(host.name))


@pytest.fixture
def volume_change(host: server.Facts) -> int:
    """The number of requests that change a volume."""
    return kinds.volume_change(host.kind)


@pytest.fixture
def restricted_certificate(host: server.Facts, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The properties, with paths, of a certificate that is restricted to the project."""
    certificate, key = tmp_path / "restricted.crt", tmp_path / "restricted.key"
    create_certificate(certificate, key, name="restricted")
    word = "add-certificate" if host.type == "incus" else "add"
    server.client(host.name, "config", "trust", word, str(certificate), "--restricted", "--projects", host.project)
    yield {"tls_client_cert": str(certificate), "tls_client_key": str(key)}
    server.client(host.name, "config", "trust", "remove", fingerprint(certificate.read_text(encoding="utf-8")))


def inventory(facts: server.Facts) -> dict[str, list[str]]:
    """Return the URLs of all resources that a CPI can create, from the client of the server."""

    def query(path: str) -> Any:
        return json.loads(
            server.client(facts.name, "query", f"{path}{'&' if '?' in path else '?'}project={facts.project}").stdout
        )

    pools = [url.rsplit("/", 1)[1] for url in query("/1.0/storage-pools")]
    urls_by_kind = {
        "instances": query("/1.0/instances"),
        "images": query("/1.0/images"),
        "aliases": query("/1.0/images/aliases"),
        "volumes": [url for pool in pools for url in query(f"/1.0/storage-pools/{pool}/volumes/custom")],
    }
    return {kind: sorted(urls) for kind, urls in urls_by_kind.items()}


@pytest.fixture(autouse=True)
def unchanged_resources(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compare the resources on the server before and after the test."""
    if "host" not in request.fixturenames:
        yield
        return
    if "stemcell_cids" in request.fixturenames:
        request.getfixturevalue("stemcell_cids")
    facts = request.getfixturevalue("host")
    before = inventory(facts)
    yield
    assert inventory(facts) == before


@pytest.fixture
def guests(host: server.Facts) -> Guests:
    return Guests(server.netns_command(host.name))


class Guests:
    """The VMs of a test, by address."""

    def __init__(self, prefix: list[str]) -> None:
        self.prefix = prefix

    def wait(self, ip: str, *, not_boot: str = "") -> dict[str, Any]:
        """Wait until the guest has booted and return its report."""
        return report.wait_for_report(ip, netns_command=self.prefix, seconds=180, not_boot=not_boot)

    def report(self, ip: str) -> dict[str, Any]:
        """Return the current report of the guest."""
        return report.request(ip, "report", netns_command=self.prefix, retry_seconds=30)

    def request(self, ip: str, command: str, **parameters: str) -> Any:
        """Send a command to the guest and return the result."""
        return report.request(ip, command, netns_command=self.prefix, retry_seconds=10, **parameters)
