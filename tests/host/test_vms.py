"""What a guest reports and what the server lists, for the life of a VM."""
from __future__ import annotations

import json

import pytest
import server
from director import MBUS, Refused, environment, manual_network

IP = "10.245.0.21"


def create(cpi, stemcell, *, ip=IP, properties=None, networks=None, env=None):
    networks = networks or {"default": manual_network(ip)}
    return cpi.call("create_vm", "agent-1", stemcell, properties or {"instance_type": "c1-m1"}, networks, [], env or environment())


@pytest.mark.every_server
def test_a_bios_vm_boots_with_what_it_was_told(host, cpi, stemcell_cids, guests):
    properties = {"instance_type": "c2-m0.5", "ephemeral_disk": 256, "root_disk": 1024}
    cid, networks = create(cpi, stemcell_cids["jammy"], properties=properties)
    requests = cpi.last.requests
    try:
        seen = guests.wait(IP)
    finally:
        cpi.call("delete_vm", cid)
    assert seen["errors"] == []
    assert seen["firmware"] == "bios"
    assert seen["vm"] == {"name": cid, "id": cid}
    assert seen["agent_id"] == "agent-1"
    assert seen["user_data"]["document"]["mbus"] == MBUS if "document" in seen["user_data"] else True
    assert seen["config_drive"]["label"] == "config-2"
    assert seen["cpus"] == 2
    print(json.dumps(seen, indent=1))
    assert networks == {"default": manual_network(IP)}
    if host.kind == "incus":
        assert requests <= 9
