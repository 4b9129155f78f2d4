"""One method per endpoint, one request each: a reader can count the requests of an action.

Every method returns a `Response`, and raises the error that `replies` maps the refusal to. What may be sent again is
decided here and nowhere else, see `_may_repeat`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.envelope import Response, parse
from bosh_lxd_cpi.lxd.transport import READ_SECONDS, Transport
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.runtime.log import Log

PATIENCE = 30.0
"""Seconds to go on knocking at a server that refuses connections or says that it is starting: a restart takes that long."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
WAIT_SLICE = 30
"""Seconds that one request waits for an operation."""
WAIT_MARGIN = 10
UPLOAD_SECONDS = 300.0
"""Longest silence of a server that takes in an image: it may be busy writing gigabytes to its disk."""


def _may_repeat(method: str, failure: errors.ServerError) -> bool:
    """Whether sending this request again can do no harm.

    Not delivered or turned away while busy: nothing was done. Answer lost: whoever asks twice for the same state, or to
    delete the same resource, gets it once. Only a POST would do it twice; its caller has to look what became of it.
    """
    if isinstance(failure, (errors.Unreachable, errors.Busy)):
        return True
    return isinstance(failure, errors.NoResponse) and method != "POST"


class Client:
    """The server as seen from one project, for one call with one deadline."""

    def __init__(self, transport: Transport, *, project: str, deadline: Deadline, log: Log) -> None:
        self.transport, self.project, self.deadline, self.log = transport, project, deadline, log
        self.names = {"project": project}
        """What the hints in error messages may name."""

    # -- the server ---------------------------------------------------------------------------------------------------

    def server(self) -> Response:
        return self._send("GET", "/1.0", what="asking the server what it is")

    def operation(self, path: str) -> Response:
        return self._send("GET", path, what="looking at an operation")

    def operations(self) -> Response:
        return self._send("GET", "/1.0/operations", query={"recursion": "1"}, what="listing operations")

    def wait_operation(self, path: str, seconds: int) -> Response:
        """Answers when the operation is over or the seconds are; not every server tells which (facts: lxd-api 2)."""
        return self._send(
            "GET", f"{path}/wait", query={"timeout": str(seconds)}, timeout=seconds + WAIT_MARGIN, what="the operation"
        )

    # -- instances ----------------------------------------------------------------------------------------------------

    def instance(self, name: str) -> Response:
        return self._send("GET", f"/1.0/instances/{_segment(name)}", what=f"reading instance {name}")

    def instances(self) -> Response:
        return self._send("GET", "/1.0/instances", query={"recursion": "1"}, what="listing instances")

    def create_instance(self, body: dict[str, Any], *, target: str = "") -> Response:
        return self._send(
            "POST",
            "/1.0/instances",
            query=_target(target),
            json_body=body,
            what=f"creating instance {body['name']}{f' on {target}' if target else ''}",
        )

    def replace_instance(self, name: str, body: dict[str, Any], etag: str) -> Response:
        return self._send(
            "PUT",
            f"/1.0/instances/{_segment(name)}",
            headers={"If-Match": etag},
            json_body=body,
            what=f"changing instance {name}",
        )

    def patch_instance(self, name: str, body: dict[str, Any], etag: str = "") -> Response:
        """Merges config and devices by key. Leaving out `description` clears it on Incus 6.0 and every LXD."""
        return self._send(
            "PATCH",
            f"/1.0/instances/{_segment(name)}",
            headers={"If-Match": etag} if etag else {},
            json_body=body,
            what=f"changing instance {name}",
        )

    def set_instance_state(self, name: str, action: str, *, force: bool = False, timeout: int = -1) -> Response:
        return self._send(
            "PUT",
            f"/1.0/instances/{_segment(name)}/state",
            json_body={"action": action, "force": force, "timeout": timeout},
            what=f"{action} of instance {name}",
        )

    def delete_instance(self, name: str) -> Response:
        return self._send("DELETE", f"/1.0/instances/{_segment(name)}", what=f"deleting instance {name}")

    # -- storage ------------------------------------------------------------------------------------------------------

    def pools(self) -> Response:
        return self._send("GET", "/1.0/storage-pools", query={"recursion": "1"}, what="listing storage pools")

    def volume(self, pool: str, name: str, *, target: str = "") -> Response:
        return self._send(
            "GET", _volume(pool, name), query=_target(target), what=f"reading volume {name} in pool {pool}"
        )

    def volumes(self, pool: str) -> Response:
        return self._send("GET", _volumes(pool), query={"recursion": "1"}, what=f"listing the volumes of pool {pool}")

    def create_volume(self, pool: str, body: dict[str, Any], *, target: str = "") -> Response:
        return self._send(
            "POST",
            _volumes(pool),
            query=_target(target),
            json_body=body,
            what=f"creating volume {body['name']} in pool {pool}",
        )

    def import_volume(self, pool: str, name: str, content: bytes, *, iso: bool, target: str = "") -> Response:
        """Upload an ISO image as a volume, or, where `iso` is false, a volume backup."""
        headers = {
            "Content-Type": "application/octet-stream",
            **_own_headers(name=name, **({"type": "iso"} if iso else {})),
        }
        return self._send(
            "POST",
            _volumes(pool),
            query=_target(target),
            headers=headers,
            body=content,
            what=f"uploading volume {name} to pool {pool}",
        )

    def offer_volume(self, pool: str, name: str, *, target: str) -> Response:
        """Have a member wait for another that pulls the volume; the metadata is the operation with its secrets."""
        return self._send(
            "POST",
            _volume(pool, name),
            query=_target(target),
            json_body={"name": name, "pool": pool, "migration": True},
            what=f"offering volume {name} in pool {pool}",
        )

    def replace_volume(
        self, pool: str, name: str, body: dict[str, Any], etag: str = "", *, target: str = ""
    ) -> Response:
        return self._send(
            "PUT",
            _volume(pool, name),
            query=_target(target),
            headers={"If-Match": etag} if etag else {},
            json_body=body,
            what=f"changing volume {name} in pool {pool}",
        )

    def delete_volume(self, pool: str, name: str, *, target: str = "") -> Response:
        return self._send(
            "DELETE", _volume(pool, name), query=_target(target), what=f"deleting volume {name} in pool {pool}"
        )

    def create_snapshot(self, pool: str, volume: str, name: str) -> Response:
        return self._send(
            "POST",
            f"{_volume(pool, volume)}/snapshots",
            json_body={"name": name},
            what=f"snapshot {name} of volume {volume} in pool {pool}",
        )

    def snapshot(self, pool: str, volume: str, name: str) -> Response:
        return self._send(
            "GET",
            f"{_volume(pool, volume)}/snapshots/{_segment(name)}",
            what=f"reading snapshot {name} of volume {volume} in pool {pool}",
        )

    def snapshots(self, pool: str, volume: str) -> Response:
        return self._send(
            "GET",
            f"{_volume(pool, volume)}/snapshots",
            query={"recursion": "1"},
            what=f"listing the snapshots of volume {volume} in pool {pool}",
        )

    def describe_snapshot(self, pool: str, volume: str, name: str, description: str) -> Response:
        return self._send(
            "PUT",
            f"{_volume(pool, volume)}/snapshots/{_segment(name)}",
            json_body={"description": description},
            what=f"describing snapshot {name} of volume {volume} in pool {pool}",
        )

    def delete_snapshot(self, pool: str, volume: str, name: str) -> Response:
        return self._send(
            "DELETE",
            f"{_volume(pool, volume)}/snapshots/{_segment(name)}",
            what=f"deleting snapshot {name} of volume {volume} in pool {pool}",
        )

    # -- images -------------------------------------------------------------------------------------------------------

    def images(self) -> Response:
        return self._send("GET", "/1.0/images", query={"recursion": "1"}, what="listing images")

    def image(self, fingerprint: str) -> Response:
        return self._send("GET", f"/1.0/images/{_segment(fingerprint)}", what=f"reading image {fingerprint}")

    def upload_image(self, body: Iterable[bytes], *, length: int, content_type: str) -> Response:
        headers = {"Content-Type": content_type, "Content-Length": str(length)}
        return self._send(
            "POST",
            "/1.0/images",
            headers=headers,
            body=self._in_time(body),
            timeout=UPLOAD_SECONDS,
            what="uploading the image",
        )

    def _in_time(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """The body for as long as there is time. Raises DeadlineExceeded."""
        for chunk in body:
            self.deadline.remaining()
            yield chunk

    def delete_image(self, fingerprint: str) -> Response:
        return self._send("DELETE", f"/1.0/images/{_segment(fingerprint)}", what=f"deleting image {fingerprint}")

    def alias(self, name: str) -> Response:
        return self._send("GET", f"/1.0/images/aliases/{_segment(name)}", what=f"reading image alias {name}")

    def create_alias(self, name: str, fingerprint: str, description: str) -> Response:
        return self._send(
            "POST",
            "/1.0/images/aliases",
            what=f"creating image alias {name}",
            json_body={"name": name, "target": fingerprint, "description": description},
        )

    def delete_alias(self, name: str) -> Response:
        return self._send("DELETE", f"/1.0/images/aliases/{_segment(name)}", what=f"deleting image alias {name}")

    # -- what the operator made ---------------------------------------------------------------------------------------

    def own_project(self) -> Response:
        return self._send("GET", f"/1.0/projects/{_segment(self.project)}", what=f"reading project {self.project}")

    def networks(self, *, project: str = "") -> Response:
        query = {"recursion": "1", **({"project": project} if project else {})}
        return self._send("GET", "/1.0/networks", query=query, what="listing networks")

    def projects(self) -> Response:
        return self._send("GET", "/1.0/projects", query={"recursion": "1"}, what="listing projects")

    def profiles(self) -> Response:
        return self._send("GET", "/1.0/profiles", query={"recursion": "1"}, what="listing profiles")

    def pool(self, name: str) -> Response:
        return self._send("GET", f"/1.0/storage-pools/{_segment(name)}", what=f"reading storage pool {name}")

    def pool_space(self, name: str) -> Response:
        return self._send(
            "GET", f"/1.0/storage-pools/{_segment(name)}/resources", what=f"reading the space in pool {name}"
        )

    def project_state(self) -> Response:
        return self._send(
            "GET", f"/1.0/projects/{_segment(self.project)}/state", what=f"reading the limits of project {self.project}"
        )

    def leases(self, network: str, *, project: str) -> Response:
        """Addresses that the network's DHCP gave out to instances of a project, or keeps for them."""
        return self._send(
            "GET",
            f"/1.0/networks/{_segment(network)}/leases",
            query={"project": project},
            what=f"listing the addresses on network {network}",
        )

    def certificate(self, fingerprint: str) -> Response:
        return self._send("GET", f"/1.0/certificates/{fingerprint}", what="reading our certificate's entry")

    def warnings(self) -> Response:
        """Those of no project: the ones about the server itself."""
        return self._send(
            "GET", "/1.0/warnings", query={"recursion": "1", "project": ""}, what="listing the server's warnings"
        )

    def cluster_members(self) -> Response:
        return self._send("GET", "/1.0/cluster/members", query={"recursion": "1"}, what="listing the cluster's members")

    # -- how it is sent -----------------------------------------------------------------------------------------------

    def _send(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json_body: Any = None,
        body: bytes | Iterable[bytes] | None = None,
        timeout: float = READ_SECONDS,
    ) -> Response:
        if json_body is not None:
            body, headers = json.dumps(json_body).encode(), {"Content-Type": "application/json", **(headers or {})}
        pause, patience = FIRST_PAUSE, self.deadline.clock.monotonic() + PATIENCE
        while True:
            seconds = min(timeout, self.deadline.remaining())
            try:
                response = self.transport.request(
                    method,
                    path,
                    query={"project": self.project, **(query or {})},
                    headers=headers,
                    body=body,
                    timeout=seconds,
                )
                return parse(response, what=what, names=self.names)
            except errors.ServerError as failure:
                streamed = not isinstance(body, (bytes, type(None)))
                if streamed or not _may_repeat(method, failure) or self.deadline.clock.monotonic() + pause > patience:
                    raise
                self.log.warn(f"{failure}; trying again")
            self.deadline.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def _segment(name: str) -> str:
    return quote(name, safe="")


def _volumes(pool: str) -> str:
    return f"/1.0/storage-pools/{_segment(pool)}/volumes/custom"


def _volume(pool: str, name: str) -> str:
    return f"{_volumes(pool)}/{_segment(name)}"


def _target(member: str) -> dict[str, str]:
    return {"target": member} if member else {}


def _own_headers(**values: str) -> dict[str, str]:
    """Headers that LXD and Incus spell with their own names; each ignores the other's."""
    return {f"X-{server}-{key}": value for server in ("LXD", "Incus") for key, value in values.items()}
