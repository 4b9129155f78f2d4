"""A cluster, if only of one member: the server is asked where the VM is before its volumes are made there."""
from __future__ import annotations

import json

import pytest
import server
from conftest import Guests
from director import Director, Refused, configuration, environment, manual_network

IP = "10.245.0.81"
SMALL = {"instance_type": "c1-m0.375", "ephemeral_disk": 64}


@pytest.fixture(scope="module", params=["incus", "lxd"])
def cluster(request):
    """A server that was made the first member of a cluster."""
    facts = server.up(request.param, name=f"cluster-{request.param}")
    for command in (["config", "set", "cluster.https_address", "127.0.0.1:8443"], ["cluster", "enable", "node1"]):
        server.client(facts.name, *command)
    yield facts
    server.down(facts.name, wipe=True)


@pytest.fixture
def director(cluster, tmp_path):
    certificate = json.loads(server.client(cluster.name, "query", "/1.0").stdout)["environment"]["certificate_fingerprint"]
    return Director(configuration(cluster, tls_server_cert=certificate), tmp_path, prefix=server.netns_command(cluster.name))


def volumes(cluster):
    path = f"/1.0/storage-pools/default/volumes/custom?recursion=1&project={cluster.project}"
    return {volume["name"]: volume["location"] for volume in json.loads(server.client(cluster.name, "query", path).stdout)}


def test_a_vm_in_a_cluster_gets_its_volumes_where_it_is(cluster, director, guest_stemcell):
    stemcell = director.call("create_stemcell", guest_stemcell["image"],
                             {**guest_stemcell["properties"], "name": "bosh-openstack-kvm-ubuntu-jammy"})
    director.config["server"]["target"] = "node1"
    vm, _ = director.call("create_vm", "a", stemcell, SMALL, {"n": manual_network(IP, cloud_properties={"target": "node1"})},
                          [], environment())
    disk = director.call("create_disk", 64, {}, vm)
    hint = director.call("attach_disk", vm, disk)["path"]
    assert set(volumes(cluster).values()) == {"node1"} and len(volumes(cluster)) == 3
    seen = Guests(director.prefix).wait(IP)
    assert seen["errors"] == [] and hint.rsplit("/", 1)[1] in seen["by_id"]
    assert seen["disks"]["ephemeral"]["size"] == 64 << 20
    director.call("detach_disk", vm, disk)
    director.call("delete_disk", disk)

    for properties, network, says in (({"target": "node2"}, {}, "on node2.*cluster list"), ({"target": "node1"}, {"target": "node2"}, "targets")):
        with pytest.raises(Refused, match=says):
            director.call("create_vm", "a", stemcell, {**SMALL, **properties},
                          {"n": manual_network("10.245.0.82", cloud_properties=network)}, [], environment())
    director.call("delete_vm", vm)
    director.call("delete_stemcell", stemcell)
    assert volumes(cluster) == {}
