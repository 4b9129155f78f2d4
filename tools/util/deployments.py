"""Subcommands for deployments on the director."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from director import Director
from shell import UtilError

STEMCELLS = "https://bosh.io/d/stemcells/bosh-openstack-kvm-ubuntu-{}"
GO_AGENT_LINES = ("bionic", "jammy", "xenial")
"""Stemcell lines whose name on bosh.io ends with -go_agent."""


class Deployments(Director):
    """Configuration, stemcells, releases and deployments of the director."""

    def do_cloud_config(self) -> None:
        """Upload cloud-config.yml to the director."""
        self.enter_director()
        self.run("bosh", "update-cloud-config", self.configuration / "cloud-config.yml")

    def do_runtime_config(self) -> None:
        """Upload the runtime config of bosh-dns, and with SERVER_ENABLE_AGENT that of the LXD or Incus agent."""
        self.enter_director()
        if self.setting("BOSH_DEPLOYMENT_DIR"):
            dns = self._bosh_deployment() / "runtime-configs/dns.yml"
            self.run("bosh", "update-runtime-config", "--name=bosh-dns", dns)
        else:
            message = "util: skipped bosh-dns, which Cloud Foundry needs, because BOSH_DEPLOYMENT_DIR is not set"
            print(message, file=sys.stderr)
        if self.setting("SERVER_ENABLE_AGENT"):
            self.run(
                "bosh",
                "update-runtime-config",
                f"--name={self.server_type}-agent",
                f"--var=server_type={self.server_type}",
                self.cpi / "manifests/runtime-config.yml",
            )

    def do_upload_stemcells(self, *lines: str) -> None:
        """Upload the latest stemcells of the named Ubuntu lines (default: noble).

        cf-deployment and manifests/postgres.yml use noble, concourse-bosh-deployment uses jammy.
        A line that the director has already is skipped. With the argument `new`, it is downloaded and uploaded again.
        """
        self.enter_director()
        stemcells = self._rows("stemcells")
        for line in [name for name in lines if name != "new"] or ["noble"]:
            if "new" not in lines and any(row.get("os") == f"ubuntu-{line}" for row in stemcells):
                print(f"The director has a stemcell of {line}.")
                continue
            name = f"{line}-go_agent" if line in GO_AGENT_LINES else line
            path = self._download(f"stemcell/ubuntu-{line}", STEMCELLS.format(name), renew="new" in lines)
            self.run("bosh", "upload-stemcell", path)

    def do_upload_releases(self, *options: str) -> None:
        """Upload the latest postgres release, which deploy_postgres needs.

        If the director has one, nothing is done. With the argument `new`, it is downloaded and uploaded again.
        """
        if set(options) - {"new"}:
            raise UtilError(f"upload_releases takes no argument but new: {' '.join(options)}")
        self.enter_director()
        if not options and any(row.get("name") == "postgres" for row in self._rows("releases")):
            print("The director has the release postgres.")
            return
        url = "https://bosh.io/d/github.com/cloudfoundry/postgres-release"
        path = self._download("release/postgres-release", url, renew=bool(options))
        self.run("bosh", "upload-release", path)

    def _rows(self, subject: str) -> list[dict[str, str]]:
        """Return the rows that a listing command of bosh prints, or none if it fails."""
        document: dict[str, Any] = json.loads(self.query("bosh", subject, "--json") or "{}")
        return [row for table in document.get("Tables") or [] for row in table.get("Rows") or []]

    def _download(self, path: str, url: str, *, renew: bool) -> str:
        if renew or not Path(path).is_file():
            self.run("curl", "--fail", "--location", "--create-dirs", "--output", f"{path}.part", url)
            self.run("mv", f"{path}.part", path)
        return path

    def do_deploy_postgres(self, *bosh_arguments: str) -> None:
        """Deploy PostgreSQL. BOSH_ARGUMENTs are appended to `bosh deploy`."""
        manifest = self.cpi / "manifests/postgres.yml"
        self._deploy("postgres", manifest, [], variables=["postgres-vars.yml"], arguments=bosh_arguments)

    def do_deploy_concourse(self, *bosh_arguments: str) -> None:
        """Deploy Concourse. BOSH_ARGUMENTs are appended to `bosh deploy`."""
        cluster = Path(self.required_setting("CONCOURSE_DIR")) / "cluster"
        self.require_file(cluster / "concourse.yml", "set CONCOURSE_DIR to a checkout of concourse-bosh-deployment")
        names = ("backup-atc", "basic-auth", "static-web", "privileged-http")
        self._deploy(
            "concourse",
            cluster / "concourse.yml",
            [cluster / f"operations/{name}.yml" for name in names],
            variables=[cluster.parent / "versions.yml", "concourse-vars.yml"],
            arguments=bosh_arguments,
        )

    def do_deploy_cf(self, *bosh_arguments: str) -> None:
        """Deploy Cloud Foundry. BOSH_ARGUMENTs are appended to `bosh deploy`."""
        source = Path(self.required_setting("CF_DEPLOYMENT_DIR"))
        self.require_file(source / "cf-deployment.yml", "set CF_DEPLOYMENT_DIR to a checkout of cf-deployment")
        names = ("use-compiled-releases", "use-latest-stemcell", "override-app-domains", "scale-to-one-az")
        self._deploy(
            "cf",
            source / "cf-deployment.yml",
            [source / f"operations/{name}.yml" for name in (*names, "use-haproxy")],
            variables=["cloudfoundry-vars.yml"],
            arguments=bosh_arguments,
        )

    def _deploy(
        self,
        name: str,
        manifest: Path,
        ops_files: list[Path],
        *,
        variables: list[str | Path],
        arguments: tuple[str, ...],
    ) -> None:
        """Run `bosh deploy`. Relative paths of variables are relative to the configuration directory."""
        self.enter_director(name)
        # CredHub on the director stores the variables of cf.
        store = [] if name == "cf" else [f"--vars-store=creds/{name}.yml"]
        self.run_private(
            "bosh",
            "deploy",
            manifest,
            *(f"--ops-file={path}" for path in ops_files),
            *store,
            *(f"--vars-file={self.configuration / path}" for path in variables),
            *arguments,
        )
