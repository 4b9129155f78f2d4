"""The requests of every method, recorded by a proxy in front of the server.

They match docs/reference/requests.md, and their number stays within the budget.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host import server
from tests.host.director import OTHER_UUID, ROOT, UUID, Director, configuration, environment, manual_network
from tests.host.kinds import LXD6
from tests.host.proxy import Exchange, Proxy
from tests.host.tiny_stemcell import STEMCELL, VM, stemcell_image

DOCUMENT = ROOT / "docs/reference/requests.md"
SERVERS = {
    "incus": "Incus 6.0",
    "incus7": "Incus 7.0",
    "incus75": "Incus 7.5",
    "lxd": "LXD 5.0",
    "lxd521": "LXD 5.21",
    "lxd6": "LXD 6.9",
    "lxdmain": "LXD 6.9",
}
BUDGET = {
    "create_stemcell": 5,
    "create_stemcell, repeated": 1,
    "create_stemcell, image of another director": 3,
    "delete_stemcell": 5,
    "delete_stemcell, image has other stemcells": 5,
    "create_vm": 9,
    "create_vm without ephemeral disk": 8,
    "create_vm with a root disk": 10,
    "has_vm": 1,
    "set_vm_metadata": 2,
    "reboot_vm": 3,
    "reboot_vm, stopped": 3,
    "delete_vm": 9,
    "delete_vm, missing": 6,
    "create_disk": 1,
    "has_disk": 1,
    "has_disk, missing": 3,
    "set_disk_metadata": 2,
    "attach_disk": 4,
    "attach_disk, repeated": 3,
    "get_disks": 1,
    "detach_disk": 4,
    "detach_disk, not attached": 1,
    "resize_disk": 2,
    "resize_disk to the same size": 1,
    "update_disk": 2,
    "snapshot_disk": 3,
    "delete_snapshot": 2,
    "delete_disk": 1,
    "delete_disk, missing": 3,
    "info": 0,
    "calculate_vm_cloud_properties": 0,
}
WAITS = (
    "create_vm",
    "create_vm with a root disk",
    "create_disk",
    "delete_disk",
    "resize_disk",
    "set_disk_metadata",
    "update_disk",
    "snapshot_disk",
)
ADDITIONAL = {
    "lxd": {
        "create_vm": 4,
        "create_vm without ephemeral disk": 4,
        "create_vm with a root disk": 4,
        "detach_disk": 1,
        "set_vm_metadata": 1,
    },
    **{kind: dict.fromkeys(WAITS, 1) for kind in LXD6},
}
"""LXD 5.0 does not start new instances. It notifies the guest of changes, so the CPI reads the instance again.
In LXD 6, changes of volumes are operations."""

HEAD = """\
# Every request

The requests of each method, recorded by a proxy in front of a server that is not clustered.
`bin/test tests/host/test_requests.py --write-docs` writes this page. Without the option, the test fails if the requests
differ. All paths begin with `/1.0`. The parameter `project` is omitted. The CPI repeats a `/wait` every 30 seconds.
"""


class Recorder:
    """Makes calls through a proxy and records the requests of each."""

    def __init__(self, director: Director, proxy: Proxy) -> None:
        self.director, self.proxy, self.calls = director, proxy, {}

    def __call__(self, title: str, *arguments: Any) -> Any:
        """Make a call. `title` is the method, optionally followed by the circumstances of this call."""
        del self.proxy.exchanges[:]
        result = self.director.call(re.split("[ ,]", title)[0], *arguments)
        self.calls[title] = list(self.proxy.exchanges)
        return result


@pytest.fixture(scope="module")
def calls(host: server.Facts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Exchange]]]:
    """The requests of each call in the lifecycle of a VM, by title."""
    directory = tmp_path_factory.mktemp("requests")
    with Proxy(directory, host) as proxy:
        recorder = Recorder(Director(configuration(host, **proxy.settings()), directory), proxy)
        run_lifecycle(
            recorder,
            stemcell_image(directory),
            stop=lambda vm: server.client(host.name, "stop", "--force", "--project", host.project, vm),
        )
        yield recorder.calls


def run_lifecycle(call: Recorder, image: Path, *, stop: Callable[[str], object]) -> None:
    """Make every call. `stop` stops a VM without the CPI."""
    call("info")
    call("calculate_vm_cloud_properties", {"cpu": 1, "ram": 512, "ephemeral_disk_size": 100})
    stemcell = call("create_stemcell", str(image), STEMCELL)
    call("create_stemcell, repeated", str(image), STEMCELL)
    call.director.uuid = OTHER_UUID
    second = call("create_stemcell, image of another director", str(image), STEMCELL)
    call.director.uuid = UUID
    network = {"default": manual_network("10.245.0.61")}
    vm, _ = call(
        "create_vm without ephemeral disk", "agent", stemcell, {**VM, "ephemeral_disk": 0}, network, [], environment()
    )
    call.director.call("delete_vm", vm)
    vm, _ = call("create_vm with a root disk", "agent", stemcell, {**VM, "root_disk": 64}, network, [], environment())
    call.director.call("delete_vm", vm)
    vm, _ = call("create_vm", "agent", stemcell, VM, network, [], environment())
    call("has_vm", vm)
    call(
        "set_vm_metadata",
        vm,
        {"director": "bosh", "deployment": "d", "job": "web", "index": "0", "id": "1", "name": "web/1"},
    )
    disk = call("create_disk", 16, {}, vm)
    call("has_disk", disk)
    call(
        "set_disk_metadata", disk, {"director": "bosh", "deployment": "d", "instance_id": "1", "instance_group": "web"}
    )
    call("attach_disk", vm, disk)
    call("attach_disk, repeated", vm, disk)
    call("get_disks", vm)
    snapshot = call("snapshot_disk", disk, {"deployment": "d", "job": "web", "index": 0})
    call("delete_snapshot", snapshot)
    call("reboot_vm", vm)
    call("detach_disk", vm, disk)
    call("detach_disk, not attached", vm, disk)
    call("resize_disk", disk, 32)
    call("resize_disk to the same size", disk, 32)
    call("update_disk", disk, 48, {})
    call("delete_disk", disk)
    call("delete_disk, missing", disk)
    call("has_disk, missing", disk)
    stop(vm)
    call("reboot_vm, stopped", vm)
    call("delete_vm", vm)
    call("delete_vm, missing", vm)
    call("delete_stemcell, image has other stemcells", second)
    call("delete_stemcell", stemcell)


@pytest.mark.every_server
def test_methods_stay_within_request_budget(host, calls):
    budget = {title: limit + ADDITIONAL.get(host.kind, {}).get(title, 0) for title, limit in BUDGET.items()}
    assert calls.keys() == budget.keys()
    assert {
        title: len(lines(exchanges)) for title, exchanges in calls.items() if len(lines(exchanges)) > budget[title]
    } == {}


@pytest.mark.every_server
def test_requests_match_documentation(host, calls, request):
    text = DOCUMENT.read_text("utf-8") if DOCUMENT.exists() else ""
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    title, rows = SERVERS[host.kind], table(calls)
    incus_rows = sections.get(SERVERS["incus"], "").splitlines()
    if host.kind == "incus":
        section = "\n".join(["", HEADING, *rows, ""])
    else:
        other_rows = [row for row in rows if row not in incus_rows]
        section = "\n".join(
            [
                "",
                "As Incus 6.0" + (", but:\n" if other_rows else "."),
                *([HEADING, *other_rows] if other_rows else []),
                "",
            ]
        )
    if request.config.getoption("--write-docs"):
        sections[title] = section
        DOCUMENT.write_text(
            "\n".join(
                [
                    HEAD,
                    *(
                        f"## {title}\n{sections[title]}"
                        for title in dict.fromkeys(SERVERS.values())
                        if title in sections
                    ),
                ]
            ),
            "utf-8",
        )
    assert sections.get(title, "").strip() == section.strip(), "see the head of docs/reference/requests.md"


HEADING = "| call | requests | which |\n|---|---|---|"


def table(calls: dict[str, list[Exchange]]) -> list[str]:
    """Return a row for each call."""
    return [
        f"| {title} | {len(lines(exchanges))} | {'<br>'.join(f'`{line}`' for line in lines(exchanges))} |"
        for title, exchanges in sorted(calls.items())
    ]


def lines(exchanges: list[Exchange]) -> list[str]:
    """Return the requests with names replaced. A repeated wait counts once.

    A request that the CPI repeats because its operation failed counts once as well. This occurs with LXD 5.0 on a busy
    machine. The creations of two volumes look the same, and count twice.
    """
    text = re.sub(r"(?m)^(.*/wait\n)\1+", r"\1", "".join(f"{exchange.line}\n" for exchange in exchanges))
    return re.sub(r"(?m)^((?!POST .*/volumes/custom$).*\n.*/wait\n)\1+", r"\1", text).splitlines()


def test_counts_repeated_requests_once():
    requests = [
        "GET /",
        "POST /a",
        "POST /a",
        "GET /o/wait",
        "POST /i",
        "GET /o/wait",
        "GET /o/wait",
        "POST /i",
        "GET /o/wait",
        *("POST /p/volumes/custom", "GET /o/wait") * 2,
    ]
    assert lines([Exchange(*line.split(), 200, 0, 0) for line in requests]) == [
        "GET /",
        "POST /a",
        "POST /a",
        "GET /o/wait",
        "POST /i",
        "GET /o/wait",
        *("POST /p/volumes/custom", "GET /o/wait") * 2,
    ]
