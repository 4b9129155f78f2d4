"""Subcommands that prepare an LXD or Incus server for BOSH, and clear it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from shell import Shell, UtilError

UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class Server(Shell):
    """The server that lxc or incus on this machine talks to."""

    def do_generate_certs(self) -> None:
        """Make a client certificate, bosh-client.crt and bosh-client.key."""
        authority = {"common_name": "bosh", "is_ca": True, "duration": 3650}
        client = {"common_name": "bosh", "ca": "bosh_ca", "duration": 3650, "extended_key_usage": ["client_auth"]}
        self.write(
            "creds/bosh-cert-manifest.yml",
            json.dumps(
                {
                    "variables": [
                        {"name": "bosh_ca", "type": "certificate", "options": authority},
                        {"name": "bosh_client", "type": "certificate", "options": client},
                    ]
                }
            )
            + "\n",
        )
        self.run("bosh", "interpolate", "creds/bosh-cert-manifest.yml", "--vars-store=creds/bosh-cert.yml")
        for field, path, mode in (("certificate", "bosh-client.crt", 0o644), ("private_key", "bosh-client.key", 0o600)):
            self.write(
                path, self.ask("bosh", "interpolate", "creds/bosh-cert.yml", "--path", f"/bosh_client/{field}"), mode
            )

    def do_init_lxd(self) -> None:
        """Make pool, project, network and profile, and have the server trust the client certificate.

        The server is the one that lxc or incus on this machine talks to.

        What is there already is left as it is.
        """
        names = self.variables()
        pool, project, profile = names["lxd_storage_pool_name"], names["lxd_project_name"], names["lxd_profile_name"]
        network, client = names["lxd_network_name"], self.client
        if not self.ask(client, "config", "get", "core.https_address").strip():
            self.run(client, "config", "set", "core.https_address", ":8443")
        if not self.ask(client, "storage", "show", pool):
            self.run(client, "storage", "create", pool, *self.setting("SERVER_STORAGE", "dir").split())
        if not self.ask(client, "network", "show", network):
            address = f"{names['internal_gw']}/{names['internal_cidr'].partition('/')[2]}"
            self.run(
                client,
                "network",
                "create",
                network,
                "--type=bridge",
                f"ipv4.address={address}",
                "ipv4.nat=true",
                "ipv6.address=none",
            )
        if not self.ask(client, "project", "show", project):
            self.run(
                client,
                "project",
                "create",
                project,
                "-c",
                "features.images=true",
                "-c",
                "features.profiles=true",
                "-c",
                "features.storage.volumes=true",
                "-c",
                "features.networks=false",
            )
        if not self.ask(client, "--project", project, "profile", "show", profile):
            self.run(client, "--project", project, "profile", "create", profile)
        if not self.ask(client, "--project", project, "profile", "device", "get", profile, "root", "pool"):
            self.run(
                client,
                "--project",
                project,
                "profile",
                "device",
                "add",
                profile,
                "root",
                "disk",
                "path=/",
                f"pool={pool}",
            )
        self._trust(self.setting("SERVER_CLIENT_CERT", "bosh-client.crt"), project)

    def _trust(self, certificate: str, project: str) -> None:
        if not Path(certificate).is_file():
            raise UtilError(
                f"there is no client certificate {certificate}: run util generate_certs, or set SERVER_CLIENT_CERT"
            )
        pem = "".join(Path(certificate).read_text("utf-8").split())
        trusted = json.loads(self.ask(self.client, "config", "trust", "list", "--format=json") or "[]")
        if pem not in ("".join(one.get("certificate", "").split()) for one in trusted):
            self.run(
                self.client,
                "config",
                "trust",
                "add-certificate" if self.client == "incus" else "add",
                Path(certificate).resolve(),
                "--name=bosh",
                "--restricted",
                f"--projects={project}",
            )

    def do_destroy(self) -> None:
        """Delete every VM, disk and image that BOSH made in the project, and the state and credentials here."""
        names, doomed = self.variables(), []
        pool, client = names["lxd_storage_pool_name"], (self.client, "--project", names["lxd_project_name"])
        for row in self._list(*client, "list"):
            doomed += [(*client, "delete", "--force", row["name"])] if re.fullmatch(f"vm-{UUID}", row["name"]) else []
        for row in self._list(*client, "image", "list"):
            if any(re.fullmatch(f"img-{UUID}", alias["name"]) for alias in row.get("aliases") or []):
                doomed.append((*client, "image", "delete", row["fingerprint"]))
        for row in self._list(*client, "storage", "volume", "list", pool):
            if row.get("type") == "custom" and re.fullmatch(f"vol-[pec]-{UUID}", row["name"]):
                doomed.append((*client, "storage", "volume", "delete", pool, row["name"]))
        print(
            f"This deletes {len(doomed)} resources in project {names['lxd_project_name']}, and creds/ and state.json here."
        )
        if not (self.dry_run or self.environ.get("BOSH_NON_INTERACTIVE")) and input("Type yes to go on: ") != "yes":
            raise UtilError("nothing was deleted")
        for command in doomed:
            self.run(*command)
        self.run("rm", "-rf", "creds", "state.json", "cpi")

    def _list(self, *command: str) -> list[dict[str, Any]]:
        """Raises UtilError where the server does not say: that is not the same as nothing being there."""
        return json.loads(self._start((*command, "--format=json"), capture_output=True, text=True).stdout)
