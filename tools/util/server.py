"""Subcommands that prepare an LXD or Incus server for BOSH, and delete what BOSH created on it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from shell import Shell, UtilError

UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
MEMBER_OPTIONS = (
    "source",
    "source.wipe",
    "size",
    "lvm.thinpool_name",
    "lvm.vg_name",
    "zfs.pool_name",
)
"""The options of a storage pool that each member of a cluster has for itself."""
LOCAL_FILES = ("creds", "state.json", "cpi", "cpi.fingerprint")
IDENTITIES = "access_management_tls"
"""The API extension for TLS identities with groups."""
IDENTITY_TYPE = "Client certificate"
"""The type of such an identity. That of a certificate in the trust store has `(restricted)` or `(unrestricted)`."""
GROUP = "bosh"


def _joined(text: str | None) -> str:
    """Return a PEM certificate without white space, to compare it."""
    return "".join((text or "").split())


def _pem(certificate: Path) -> str:
    return _joined(certificate.read_text("utf-8") if certificate.is_file() else "")


def _free_name(certificate: Path, rows: list[dict[str, Any]]) -> str:
    """Return a name for a certificate. LXD 5.21 and later has unique names of certificates and identities."""
    is_taken = "bosh" in (row.get("name") for row in rows)
    return f"bosh-{hashlib.sha256(_pem(certificate).encode()).hexdigest()[:8]}" if is_taken else "bosh"


class Server(Shell):
    """The server that lxc or incus on this machine is connected to."""

    def do_generate_certs(self) -> None:
        """Create a client certificate: bosh-client.crt and bosh-client.key."""
        authority = {"common_name": "bosh", "is_ca": True, "duration": 3650}
        client = {"common_name": "bosh", "ca": "bosh_ca", "duration": 3650, "extended_key_usage": ["client_auth"]}
        variables = [
            {"name": "bosh_ca", "type": "certificate", "options": authority},
            {"name": "bosh_client", "type": "certificate", "options": client},
        ]
        self.write("creds/bosh-cert-manifest.yml", json.dumps({"variables": variables}) + "\n")
        store = "creds/bosh-cert.yml"
        self.run_private("bosh", "interpolate", "creds/bosh-cert-manifest.yml", f"--vars-store={store}")
        for field, path, mode in (("certificate", "bosh-client.crt", 0o644), ("private_key", "bosh-client.key", 0o600)):
            command = ("bosh", "interpolate", store, "--path", f"/bosh_client/{field}")
            self.write(path, "" if self.dry_run else self.output(*command), mode)

    def do_init_lxd(self, option: str = "") -> None:
        """Create pool, network, project and profile on the server, and trust the client certificate.

        The server is the one that lxc or incus on this machine is connected to. Existing objects are not changed.
        In a cluster, pool and network are created on all members.
        The certificate is restricted to the project. With --identity, it becomes an identity of LXD (5.21.3, 6.2 or
        later) in the group bosh, which may also list and delete snapshots of disks. If the server trusts the
        certificate already, remove it first: `lxc config trust remove FINGERPRINT`.
        """
        if option not in ("", "--identity"):
            raise UtilError(f"there is no option {option}; see util init_lxd --help")
        if option and IDENTITIES not in self.output(self.client, "query", "/1.0"):
            raise UtilError("the server has no identities, which LXD has from 5.21.3 and 6.2 on; omit --identity")
        names = ("storage_pool_name", "project_name", "profile_name", "network_name")
        pool, project, profile, network = self.required_variables(*(f"lxd_{name}" for name in names))
        client = self.client
        certificate = self.require_file(
            Path(self.setting("SERVER_CLIENT_CERT", "bosh-client.crt")),
            "run util generate_certs, or set SERVER_CLIENT_CERT",
        )
        identity = self._identity(certificate) if option else None
        if identity and identity.get("type") != IDENTITY_TYPE:
            raise UtilError(
                f"the server trusts {certificate} already, without a group: run"
                f" `{client} config trust remove {identity['id'][:12]}`, then repeat util init_lxd --identity"
            )
        if not self.query(client, "config", "get", "core.https_address").strip():
            self.run(client, "config", "set", "core.https_address=:8443")
        driver, *options = self.setting("SERVER_STORAGE", "dir").split()
        self._create("storage", pool, [driver], options)
        gateway, cidr, dhcp_range = self.required_variables("internal_gw", "internal_cidr", "dhcp_range")
        address = [f"ipv4.address={gateway}/{cidr.partition('/')[2]}", f"ipv4.dhcp.ranges={dhcp_range}"]
        fixed = ["ipv4.nat=true", "ipv6.address=none", "dns.mode=none"]
        self._create("network", network, ["--type=bridge"], address + fixed)
        if not self.query(client, "project", "show", project):
            features = {"images": "true", "profiles": "true", "storage.volumes": "true", "networks": "false"}
            options = [word for name, value in features.items() for word in ("-c", f"features.{name}={value}")]
            self.run(client, "project", "create", project, *options)
        in_project = (client, "--project", project)
        if not self.query(*in_project, "profile", "show", profile):
            self.run(*in_project, "profile", "create", profile)
        if not self.query(*in_project, "profile", "device", "get", profile, "root", "pool"):
            self.run(*in_project, "profile", "device", "add", profile, "root", "disk", "path=/", f"pool={pool}")
        if option:
            self._add_identity(certificate, project=project, network=network)
        else:
            self._trust(certificate, project)
        if not self.dry_run:
            print(f"The server has pool {pool}, network {network}, project {project} and profile {profile} for BOSH.")
            print(f"It trusts the certificate {certificate}. Next: util doctor, then util deploy_bosh.")

    def _add_identity(self, certificate: Path, *, project: str, network: str) -> None:
        """Create the group bosh with its permissions, and an identity in it, if they do not exist."""
        rows = json.loads(self.query(self.client, "auth", "group", "list", "--format=json") or "[]")
        group = next((row for row in rows if row["name"] == GROUP), None)
        if not group:
            self.run(self.client, "auth", "group", "create", GROUP)
        held = {(row["url"].partition("?")[0], row["entitlement"]) for row in (group or {}).get("permissions") or []}
        for url, entitlement, words in (
            (f"/1.0/projects/{project}", "operator", ("project", project, "operator")),
            ("/1.0/projects/default", "can_view", ("project", "default", "can_view")),
            (f"/1.0/networks/{network}", "can_view", ("network", network, "can_view", "project=default")),
        ):
            if (url, entitlement) not in held:
                self.run(self.client, "auth", "group", "permission", "add", GROUP, *words)
        identity = self._identity(certificate)
        if not identity:
            name = _free_name(certificate, self._identities())
            self.run(
                self.client, "auth", "identity", "create", f"tls/{name}", certificate.resolve(), f"--group={GROUP}"
            )
        elif GROUP not in (identity.get("groups") or ()):
            self.run(self.client, "auth", "identity", "group", "add", f"tls/{identity['name']}", GROUP)

    def _identities(self) -> list[dict[str, Any]]:
        """Return identities and certificates of the trust store."""
        rows: list[dict[str, Any]] = json.loads(
            self.query(self.client, "auth", "identity", "list", "--format=json") or "[]"
        )
        return rows

    def _identity(self, certificate: Path) -> dict[str, Any] | None:
        """Return the identity or the entry of the trust store with this certificate, or None."""
        pem = _pem(certificate)
        return next((row for row in self._identities() if _joined(row.get("tls_certificate")) == pem), None)

    def _create(self, kind: str, name: str, arguments: list[str], options: list[str]) -> None:
        """Create a pool or a network unless it exists. In a cluster, define it on each member first.

        An object that is pending, because it was defined on some members only, is completed.
        """
        path = {"storage": "storage-pools", "network": "networks"}[kind]
        current = json.loads(self.query(self.client, "query", f"/1.0/{path}/{name}") or "{}")
        if current and current.get("status") != "Pending":
            return
        members = json.loads(self.query(self.client, "cluster", "list", "--format=json") or "[]")
        defined = current.get("locations") or []
        on_member = [option for option in options if option.partition("=")[0] in MEMBER_OPTIONS]
        command = (self.client, kind, "create", name, *arguments)
        for member in (member["server_name"] for member in members):
            if member not in defined:
                self.run(*command, *on_member, f"--target={member}")
        self.run(*command, *(option for option in options if not (members and option in on_member)))

    def _trust(self, certificate: Path, project: str) -> None:
        """Add the client certificate to the server's trust store, restricted to the project, if it is not there."""
        entries = json.loads(self.query(self.client, "config", "trust", "list", "--format=json") or "[]")
        if _pem(certificate) not in (_joined(entry.get("certificate")) for entry in entries):
            add = "add-certificate" if self.client == "incus" else "add"
            options = (f"--name={_free_name(certificate, entries)}", "--restricted", f"--projects={project}")
            self.run(self.client, "config", "trust", add, certificate.resolve(), *options)

    def do_destroy(self) -> None:
        """Delete every VM, disk and image that BOSH created in the project, and the local state and credentials.

        The resources are listed before you are asked for confirmation. BOSH_NON_INTERACTIVE skips the question.
        """
        project, pool = self.required_variables("lxd_project_name", "lxd_storage_pool_name")
        resources = self._bosh_resources((self.client, "--project", project), pool)
        files = [name for name in LOCAL_FILES if os.path.lexists(name)]
        print(f"This deletes {len(resources)} resources in project {project}:")
        for name in resources:
            print(f"  {name}")
        print(f"It also deletes these local files: {', '.join(files) or 'none'}.", flush=True)
        if not (self.dry_run or self.environ.get("BOSH_NON_INTERACTIVE") or self._confirm()):
            raise UtilError("nothing was deleted")
        for command in resources.values():
            self.run(*command)
        self.run("rm", "-rf", *LOCAL_FILES)

    @staticmethod
    def _confirm() -> bool:
        try:
            return input("Type yes to continue: ") == "yes"
        except EOFError:
            print()
            raise UtilError(
                "nothing was deleted: there is no terminal to confirm on; set BOSH_NON_INTERACTIVE=true to confirm"
            ) from None

    def _bosh_resources(self, client: tuple[str, ...], pool: str) -> dict[str, tuple[str, ...]]:
        """Return the commands that delete BOSH's VMs, images and disks, each by a description of the resource."""
        commands: dict[str, tuple[str, ...]] = {}
        for row in self._list(*client, "list"):
            if re.fullmatch(f"vm-{UUID}", row["name"]):
                commands[f"VM {row['name']}"] = (*client, "delete", "--force", row["name"])
        for row in self._list(*client, "image", "list"):
            aliases = [alias["name"] for alias in row.get("aliases") or []]
            if any(re.fullmatch(f"img-{UUID}", alias) for alias in aliases):
                commands[f"image {', '.join(aliases)}"] = (*client, "image", "delete", row["fingerprint"])
        for row in self._list(*client, "storage", "volume", "list", pool):
            if row.get("type") == "custom" and re.fullmatch(f"vol-[pec]-{UUID}", row["name"]):
                commands[f"disk {row['name']}"] = (*client, "storage", "volume", "delete", pool, row["name"])
        return commands

    def _list(self, *command: str) -> list[dict[str, Any]]:
        """Return the rows of a listing. Raise UtilError if the server cannot list them."""
        rows: list[dict[str, Any]] = json.loads(self.output(*command, "--format=json"))
        return rows
