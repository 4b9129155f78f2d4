"""Subcommands that deploy a director, and deployments on it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import release
from shell import ROOT, Shell, UtilError

STEMCELLS = "https://bosh.io/d/stemcells/bosh-openstack-kvm-ubuntu-{}"
GO_AGENT_LINES = ("bionic", "jammy", "xenial")
"""Stemcell lines whose name on bosh.io ends with -go_agent."""


class Director(Shell):
    """The director in state.json, and its deployments."""

    def enter_director(self, deployment: str = "") -> None:
        """Set the environment of the following bosh commands to the director that deploy_bosh created.

        Raise UtilError if there are no credentials.
        """
        self.require_file(
            Path("creds/bosh.yml"), "run util deploy_bosh here, or change to the directory where you ran it"
        )
        for name, path in (("BOSH_CLIENT_SECRET", "/admin_password"), ("BOSH_CA_CERT", "/director_ssl/ca")):
            self.environ[name] = self.query("bosh", "interpolate", "creds/bosh.yml", "--path", path).rstrip("\n")
        [address] = self.required_variables("internal_ip")
        self.environ |= {"BOSH_CLIENT": "admin", "BOSH_ENVIRONMENT": address}
        self.environ |= {"BOSH_DEPLOYMENT": deployment} if deployment else {}

    def do_deploy_bosh(self, *bosh_arguments: str) -> None:
        """Deploy a director, or update it.

        The director is deployed again only if the release, the manifest or the stemcell has changed.
        BOSH_ARGUMENTs are appended to `bosh create-env`.
        """
        deployment = self._bosh_deployment()
        variables, url = self.variables(), self.required_setting("SERVER_URL")
        prefix = "server" if "server_project_name" in variables else "lxd"
        certificate, key = self._client_certificate()
        server_certificate = self.setting("SERVER_CERT")
        options = [
            f"--var={prefix}_url={url}",
            f"--var={prefix}_insecure={self.setting('SERVER_INSECURE', 'false')}",
            f"--var-file={prefix}_client_cert={certificate}",
            f"--var-file={prefix}_client_key={key}",
        ]
        if server_certificate:
            self.require_file(Path(server_certificate), "set SERVER_CERT to the server's certificate")
            options.append(f"--var-file=lxd_server_cert={server_certificate}")
        self.run_private(
            "bosh",
            "create-env",
            self.require_file(deployment / "bosh.yml", "set BOSH_DEPLOYMENT_DIR to a checkout of bosh-deployment"),
            *(f"--ops-file={path}" for path in self._director_ops_files(deployment, variables)),
            "--state=state.json",
            "--vars-store=creds/bosh.yml",
            f"--vars-file={self.configuration / 'bosh-vars.yml'}",
            *options,
            f"--var=cpi_path={self._release()}",
            *bosh_arguments,
        )
        if self.setting("BOSH_JUMPBOX_ENABLE"):
            self._write_jumpbox_key()

    def _director_ops_files(self, deployment: Path, variables: dict[str, str]) -> list[Path]:
        config = self.cpi / "manifests"
        paths = [config / "cpi.yml"]
        if "server_project_name" in variables:
            paths.append(config / "ops/server-variables.yml")
        paths.append(config / f"ops/enable-{self.server_type}.yml")
        paths += [deployment / f"{name}.yml" for name in ("bbr", "uaa", "credhub")]
        optional = (
            (self.setting("BOSH_JUMPBOX_ENABLE"), deployment / "jumpbox-user.yml"),
            (self.setting("BOSH_SNAPSHOTS_ENABLE"), config / "ops/enable-snapshots.yml"),
            (self.setting("BOSH_RESIZE_DISK_ENABLE"), config / "ops/enable-resize-disk.yml"),
            ("internal_dns" in variables, deployment / "misc/dns.yml"),
            (self.setting("SERVER_ENABLE_AGENT"), config / f"ops/enable-{self.server_type}-agent.yml"),
            (self.setting("SERVER_CERT"), config / "ops/pin-server-certificate.yml"),
        )
        return paths + [path for enabled, path in optional if enabled]

    def _client_certificate(self) -> tuple[Path, Path]:
        """Return the paths of the client certificate and of its key. Raise UtilError if one does not exist."""
        certificate = Path(self.setting("SERVER_CLIENT_CERT", "bosh-client.crt"))
        key = Path(self.setting("SERVER_CLIENT_KEY", "bosh-client.key"))
        self.require_file(certificate, "run util generate_certs, or set SERVER_CLIENT_CERT")
        self.require_file(key, "run util generate_certs, or set SERVER_CLIENT_KEY")
        return certificate, key

    def _write_jumpbox_key(self) -> None:
        """Write the SSH key of the jumpbox user, and forget the host key of an earlier director."""
        key = "" if self.dry_run else self._credential("/jumpbox_ssh/private_key")
        self.write("creds/jumpbox.pk", key)
        known_hosts = Path(self.environ.get("HOME") or Path.home()) / ".ssh/known_hosts"
        if known_hosts.is_file():
            self.run("ssh-keygen", "-R", *self.required_variables("internal_ip"), "-f", known_hosts)

    def _credential(self, path: str) -> str:
        return self.output("bosh", "interpolate", "creds/bosh.yml", "--path", path)

    def _release(self) -> Path:
        """Return the path of the release tarball. Build it if there is none, or if its content has changed.

        Each `bosh create-release` makes a new version, and `bosh create-env` recreates the director for a new version.
        """
        local = self.setting("SERVER_LOCAL_RELEASE")
        if local:
            return self.require_file(
                Path(local).resolve(), "set SERVER_LOCAL_RELEASE to a release tarball, or unset it"
            )
        tarball, stamp = Path("cpi").resolve(), Path("cpi.fingerprint")
        self.run(self.cpi / "bin/vendor")
        content = release.fingerprint(self.cpi)
        if release.is_current(tarball, stamp, content):
            print("The content of the release has not changed: the existing tarball is used.", flush=True)
            return tarball
        self.run("bosh", "create-release", f"--dir={self.cpi}", "--force", f"--tarball={tarball}")
        if tarball.is_file() and not self.dry_run:
            self.write(str(stamp), release.stamp_content(tarball, content))
        return tarball

    def _bosh_deployment(self) -> Path:
        return Path(self.setting("BOSH_DEPLOYMENT_DIR") or Path.home() / "Documents/Source/bosh-deployment")

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

    def do_capture_requests(self, log: str = "log") -> None:
        """Extract CPI requests and responses, without secrets, from a debug log of bosh into requests/.

        LOG is the output of bosh with BOSH_LOG_LEVEL=debug (default: log), or a directory that the CPI wrote captures
        to. The captures of a directory are copied unchanged.
        """
        source = Path(log)
        if source.is_dir():
            for capture in sorted(source.glob("*.json")):
                self.write(f"requests/{capture.name}", capture.read_text("utf-8"))
            return
        if not source.is_file():
            raise UtilError(f"there is no file or directory {log}: name a debug log of bosh or a captures directory")
        sys.path.insert(0, str(ROOT))
        from bosh_lxd_cpi.runtime.log import Log, secrets_in

        if not self.dry_run:
            shutil.rmtree("requests", ignore_errors=True)
        content = source.read_text("utf-8", errors="replace")
        for kind, word in (("request", "STDIN"), ("response", "STDOUT")):
            for number, line in enumerate(re.findall(rf"(?m)^{word}: '(.*)\s*'$", content), 1):
                try:
                    document = json.loads(line)
                except ValueError as error:
                    raise UtilError(f"{log}: {kind} {number} is not JSON: {error}") from None
                redactor = Log("")
                redactor.hide(secrets_in(document))
                redacted = redactor.redact(json.dumps(document, indent=2))
                self.write(f"requests/{kind}-{number:03}.json", f"{redacted}\n")
