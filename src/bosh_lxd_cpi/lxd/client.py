"""The REST API of LXD and Incus: one method for each endpoint, one request for each method.

So a reader can count the requests of an action. Methods that read return a typed view of the document, methods that
change something return a `Response`, which may name an operation to wait for. All of them raise what `Session.send`
raises.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from bosh_lxd_cpi.lxd import paths
from bosh_lxd_cpi.lxd.envelope import Response
from bosh_lxd_cpi.lxd.resources import (
    ClusterMember,
    Image,
    ImageAlias,
    Instance,
    Kind,
    Network,
    Operation,
    PoolSpace,
    Profile,
    Project,
    Server,
    Snapshot,
    StoragePool,
    Volume,
    several,
    single,
)
from bosh_lxd_cpi.lxd.session import Session
from bosh_lxd_cpi.runtime.clock import Deadline

STORAGE_SECONDS = math.inf
"""Time of a server for a change of a volume or its attachment: until the deadline of the call. Incus, and LXD
before 6.6, respond when the change is complete. lxd/keepalive.py ends the connection if the server's machine is
unreachable."""
WAIT_SLICE = 30
"""Seconds that one request waits for an operation."""
WAIT_MARGIN = 10
"""Seconds that the response to such a request may be late."""
UPLOAD_SECONDS = 300.0
"""Time of a server for the import of an image: it may be writing gigabytes to its disk."""


class Client(Session):
    """The server as one project sees it."""

    def with_deadline(self, deadline: Deadline) -> Client:
        """Return a client for the same connection with another deadline."""
        client = Client(self.transport, project=self.project, deadline=deadline, log=self.log, retry=self.retry)
        client.project_is_visible = self.project_is_visible
        return client

    def _get(self, kind: type[Kind], path: str, what: str, **options: Any) -> Kind:
        return single(kind, self.send("GET", path, what=what, **options), f"GET {path}")

    def _list(self, kind: type[Kind], path: str, what: str, **query: str) -> list[Kind]:
        response = self.send("GET", path, what=what, query={"recursion": "1", **query})
        return several(kind, response, f"GET {path}")

    # Server and operations

    def server(self, *, target: str = "") -> Server:
        return self._get(Server, "/1.0", "reading the server's properties", query=paths.target(target))

    def operation(self, path: str) -> Operation:
        return self._get(Operation, path, "reading an operation")

    def operations(self) -> list[Operation]:
        """Return the operations of every status. The server groups them by status."""
        response = self.send("GET", "/1.0/operations", what="listing operations", query={"recursion": "1"})
        groups = response.metadata or {}
        if isinstance(groups, dict) and all(isinstance(group, list) for group in groups.values()):
            groups = [operation for group in groups.values() for operation in group]
        return several(Operation, response._replace(metadata=groups), "GET /1.0/operations")

    def wait_operation(self, path: str, seconds: int) -> Operation:
        """Return the operation when it has ended or the seconds have passed.

        Not every server tells which of the two (docs/development/lxd-api.md §2).
        """
        timeout = seconds + WAIT_MARGIN
        return self._get(Operation, f"{path}/wait", "the operation", query={"timeout": str(seconds)}, timeout=timeout)

    # Instances

    def instance(self, name: str) -> Instance:
        return self._get(Instance, paths.instance(name), f"reading instance {name}")

    def instances(self) -> list[Instance]:
        return self._list(Instance, "/1.0/instances", "listing instances")

    def create_instance(self, body: dict[str, Any], *, target: str = "") -> Response:
        what = f"creating instance {body['name']}{f' on {target}' if target else ''}"
        return self.send("POST", "/1.0/instances", what=what, query=paths.target(target), document=body)

    def replace_instance(self, name: str, body: dict[str, Any], etag: str) -> Response:
        headers = {"If-Match": etag}
        return self.send("PUT", paths.instance(name), what=f"changing instance {name}", headers=headers, document=body)

    def patch_instance(self, name: str, body: dict[str, Any], etag: str = "") -> Response:
        """Merge config and devices by key. A body without `description` clears it on Incus 6.0 and every LXD."""
        headers = {"If-Match": etag} if etag else {}
        what, path = f"changing instance {name}", paths.instance(name)
        return self.send("PATCH", path, what=what, headers=headers, document=body, timeout=STORAGE_SECONDS)

    def set_instance_state(self, name: str, action: str, *, force: bool = False, timeout: int = -1) -> Response:
        body = {"action": action, "force": force, "timeout": timeout}
        return self.send("PUT", f"{paths.instance(name)}/state", what=f"{action} of instance {name}", document=body)

    def delete_instance(self, name: str) -> Response:
        return self.send("DELETE", paths.instance(name), what=f"deleting instance {name}")

    # Storage

    def pools(self) -> list[StoragePool]:
        return self._list(StoragePool, "/1.0/storage-pools", "listing storage pools")

    def pool(self, name: str, *, target: str = "") -> StoragePool:
        return self._get(StoragePool, paths.pool(name), f"reading storage pool {name}", query=paths.target(target))

    def pool_space(self, name: str, *, target: str = "") -> PoolSpace:
        """Return the space of a pool, on a cluster that of the member that responds."""
        what, path = f"reading the space of pool {name}", f"{paths.pool(name)}/resources"
        return self._get(PoolSpace, path, what, query=paths.target(target))

    def volume(self, pool: str, name: str, *, target: str = "") -> Volume:
        what = f"reading volume {name} in pool {pool}"
        return self._get(Volume, paths.volume(pool, name), what, query=paths.target(target), fields={"pool": pool})

    def volumes(self, pool: str) -> list[Volume]:
        return self._list(Volume, paths.volumes(pool), f"listing the volumes of pool {pool}")

    def create_volume(self, pool: str, body: dict[str, Any], *, target: str = "") -> Response:
        """Create a volume, or copy one of another member if the body has a source."""
        what, path = f"creating volume {body['name']} in pool {pool}", paths.volumes(pool)
        query, fields = paths.target(target), {"pool": pool}
        return self.send("POST", path, what=what, query=query, document=body, fields=fields, timeout=STORAGE_SECONDS)

    def import_volume(self, pool: str, name: str, content: bytes, *, iso: bool, target: str = "") -> Response:
        """Upload an ISO image as a volume, or a volume backup if `iso` is false."""
        headers = {
            "Content-Type": "application/octet-stream",
            **paths.vendor_headers(name=name, **({"type": "iso"} if iso else {})),
        }
        what = f"uploading volume {name} to pool {pool}"
        return self.send(
            "POST",
            paths.volumes(pool),
            what=what,
            query=paths.target(target),
            headers=headers,
            body=content,
            timeout=STORAGE_SECONDS,
            fields={"pool": pool},
        )

    def offer_volume(self, pool: str, name: str, *, target: str) -> Response:
        """Make a member wait for another one that pulls the volume. The metadata is the operation with its secrets."""
        body = {"name": name, "pool": pool, "migration": True}
        what = f"offering volume {name} in pool {pool}"
        return self.send("POST", paths.volume(pool, name), what=what, query=paths.target(target), document=body)

    def replace_volume(
        self, pool: str, name: str, body: dict[str, Any], *, etag: str = "", target: str = ""
    ) -> Response:
        what, headers = f"changing volume {name} in pool {pool}", {"If-Match": etag} if etag else {}
        return self.send(
            "PUT",
            paths.volume(pool, name),
            what=what,
            query=paths.target(target),
            headers=headers,
            document=body,
            timeout=STORAGE_SECONDS,
            fields={"pool": pool},
        )

    def delete_volume(self, pool: str, name: str, *, target: str = "") -> Response:
        path, query, what = paths.volume(pool, name), paths.target(target), f"deleting volume {name} in pool {pool}"
        return self.send("DELETE", path, what=what, query=query, fields={"pool": pool}, timeout=STORAGE_SECONDS)

    def create_snapshot(self, pool: str, volume: str, name: str) -> Response:
        """Create a snapshot of a volume. Its description needs another request: see `describe_snapshot`."""
        what, fields = f"creating snapshot {name} of volume {volume} in pool {pool}", {"pool": pool}
        path, body = paths.snapshots(pool, volume), {"name": name}
        return self.send("POST", path, what=what, document=body, fields=fields, timeout=STORAGE_SECONDS)

    def snapshot(self, pool: str, volume: str, name: str) -> Snapshot:
        what = f"reading snapshot {name} of volume {volume} in pool {pool}"
        return self._get(Snapshot, paths.snapshot(pool, volume, name), what)

    def snapshots(self, pool: str, volume: str) -> list[Snapshot]:
        what = f"listing the snapshots of volume {volume} in pool {pool}"
        return self._list(Snapshot, paths.snapshots(pool, volume), what)

    def describe_snapshot(self, pool: str, volume: str, name: str, *, description: str) -> Response:
        """Set the description of a snapshot, its only property besides the expiry date."""
        what = f"describing snapshot {name} of volume {volume} in pool {pool}"
        path, body = paths.snapshot(pool, volume, name), {"description": description}
        return self.send("PUT", path, what=what, document=body, timeout=STORAGE_SECONDS)

    def delete_snapshot(self, pool: str, volume: str, name: str) -> Response:
        what = f"deleting snapshot {name} of volume {volume} in pool {pool}"
        return self.send("DELETE", paths.snapshot(pool, volume, name), what=what, timeout=STORAGE_SECONDS)

    # Images

    def images(self, *, description: str = "") -> list[Image]:
        """Return all images, or those that can have this property `description`, and perhaps others."""
        return self._list(Image, "/1.0/images", "listing images", **paths.image_filter(description))

    def image(self, fingerprint: str) -> Image:
        return self._get(Image, f"/1.0/images/{paths.segment(fingerprint)}", f"reading image {fingerprint}")

    def upload_image(self, body: Iterable[bytes], *, length: int, content_type: str) -> Response:
        """Upload a body of `length` bytes. Raises DeadlineExceeded between two chunks, too."""
        headers = {"Content-Type": content_type, "Content-Length": str(length)}
        chunks, what = self._before_deadline(body), "uploading the image"
        return self.send("POST", "/1.0/images", what=what, headers=headers, body=chunks, timeout=UPLOAD_SECONDS)

    def _before_deadline(self, body: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in body:
            self.deadline.remaining()
            yield chunk

    def delete_image(self, fingerprint: str) -> Response:
        return self.send("DELETE", f"/1.0/images/{paths.segment(fingerprint)}", what=f"deleting image {fingerprint}")

    def alias(self, name: str) -> ImageAlias:
        return self._get(ImageAlias, paths.alias(name), f"reading image alias {name}")

    def create_alias(self, name: str, fingerprint: str, *, description: str) -> Response:
        body = {"name": name, "target": fingerprint, "description": description}
        return self.send("POST", "/1.0/images/aliases", what=f"creating image alias {name}", document=body)

    def delete_alias(self, name: str) -> Response:
        return self.send("DELETE", paths.alias(name), what=f"deleting image alias {name}")

    # Objects of the operator

    def own_project(self) -> Project:
        return self._get(Project, f"/1.0/projects/{paths.segment(self.project)}", f"reading project {self.project}")

    def projects(self) -> list[Project]:
        return self._list(Project, "/1.0/projects", "listing projects")

    def project_state(self) -> dict[str, Any]:
        """Return the limits and the usage of the project: `{"resources": {NAME: {"Limit": N, "Usage": N}}}`."""
        path = f"/1.0/projects/{paths.segment(self.project)}/state"
        return dict(self.send("GET", path, what=f"reading the limits of project {self.project}").metadata or {})

    def profiles(self) -> list[Profile]:
        return self._list(Profile, "/1.0/profiles", "listing profiles")

    def networks(self, *, project: str = "") -> list[Network]:
        return self._list(Network, "/1.0/networks", "listing networks", **({"project": project} if project else {}))

    def network(self, name: str, *, project: str = "") -> Network:
        query = {"project": project} if project else {}
        return self._get(Network, f"/1.0/networks/{paths.segment(name)}", f"reading network {name}", query=query)

    def leases(self, network: str, *, project: str) -> list[dict[str, Any]]:
        """Return the addresses that the network's DHCP assigned to instances of a project, or reserves for them."""
        path = f"/1.0/networks/{paths.segment(network)}/leases"
        what = f"listing the addresses on network {network}"
        return list(self.send("GET", path, what=what, query={"project": project}).metadata or [])

    def certificate(self, fingerprint: str) -> dict[str, Any]:
        what = "reading the trust store entry of the client certificate"
        return dict(self.send("GET", f"/1.0/certificates/{fingerprint}", what=what).metadata or {})

    def identity(self) -> dict[str, Any]:
        """Return the identity of the client certificate with its groups and permissions (LXD from 5.21.3 and 6.2)."""
        what = "reading the identity of the client certificate"
        return dict(self.send("GET", "/1.0/auth/identities/current", what=what).metadata or {})

    def warnings(self) -> list[dict[str, Any]]:
        """Return the warnings without project: those about the server itself."""
        query = {"recursion": "1", "project": ""}
        return list(self.send("GET", "/1.0/warnings", what="listing the server's warnings", query=query).metadata or [])

    def server_resources(self) -> dict[str, Any]:
        """Return the hardware: `{"cpu": {"total": N}, ...}`. Restricted certificates may not read it."""
        return dict(self.send("GET", "/1.0/resources", what="reading the server's hardware").metadata or {})

    def cluster_members(self) -> list[ClusterMember]:
        return self._list(ClusterMember, "/1.0/cluster/members", "listing the cluster's members")
