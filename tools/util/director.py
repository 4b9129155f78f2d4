"""Subcommands that deploy a director, and deployments on it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from shell import ROOT, Shell

STEMCELLS = "https://bosh.io/d/stemcells/bosh-openstack-kvm-ubuntu-{}"


class Director(Shell):
    """A director, and what runs on it."""

    def enter_director(self, deployment: str = "") -> None:
        """Have the bosh commands that follow talk to the director that deploy_bosh made."""
        for name, path in (("BOSH_CLIENT_SECRET", "/admin_password"), ("BOSH_CA_CERT", "/director_ssl/ca")):
            self.environ[name] = self.ask("bosh", "interpolate", "creds/bosh.yml", "--path", path).rstrip("\n")
        self.environ |= {"BOSH_CLIENT": "admin", "BOSH_ENVIRONMENT": self.variables()["internal_ip"]}
        self.environ |= {"BOSH_DEPLOYMENT": deployment} if deployment else {}

    def do_deploy_bosh(self, *more: str) -> None:
        """Deploy a director, or bring it up to date."""
        deployment = self._bosh_deployment()
        names, config, kind = self.variables(), self.cpi / "manifests", self.setting("SERVER_TYPE", "lxd")
        prefix = "server" if "server_project_name" in names else "lxd"
        ops = [
            config / "cpi.yml",
            config / f"ops/enable-{kind}.yml",
            *(deployment / f"{name}.yml" for name in ("bbr", "uaa", "credhub")),
        ]
        if prefix == "server":
            ops.insert(1, config / "ops/server-variables.yml")
        for wanted, path in (
            (self.setting("BOSH_JUMPBOX_ENABLE"), deployment / "jumpbox-user.yml"),
            (self.setting("BOSH_SNAPSHOTS_ENABLE"), config / "ops/enable-snapshots.yml"),
            (self.setting("BOSH_RESIZE_DISK_ENABLE"), config / "ops/enable-resize-disk.yml"),
            ("internal_dns" in names, deployment / "misc/dns.yml"),
            (self.setting("SERVER_ENABLE_AGENT"), config / f"ops/enable-{kind}-agent.yml"),
            (self.setting("SERVER_CERT"), config / "ops/pin-server-certificate.yml"),
        ):
            ops += [path] if wanted else []
        variables = [
            f"--var={prefix}_url={self.needed('SERVER_URL')}",
            f"--var={prefix}_insecure={self.setting('SERVER_INSECURE', 'false')}",
            f"--var-file={prefix}_client_cert={self.setting('SERVER_CLIENT_CERT', 'bosh-client.crt')}",
            f"--var-file={prefix}_client_key={self.setting('SERVER_CLIENT_KEY', 'bosh-client.key')}",
            *([f"--var-file=lxd_server_cert={self.setting('SERVER_CERT')}"] if self.setting("SERVER_CERT") else []),
            f"--var=cpi_path={self._release()}",
        ]
        self.run(
            "bosh",
            "create-env",
            deployment / "bosh.yml",
            *(f"--ops-file={path}" for path in ops),
            "--state=state.json",
            "--vars-store=creds/bosh.yml",
            f"--vars-file={self.configuration / 'bosh-vars.yml'}",
            *variables,
            *more,
        )
        if self.setting("BOSH_JUMPBOX_ENABLE"):
            self.write(
                "creds/jumpbox.pk",
                self.ask("bosh", "interpolate", "creds/bosh.yml", "--path", "/jumpbox_ssh/private_key"),
                0o600,
            )
            known = Path(self.environ.get("HOME") or Path.home()) / ".ssh/known_hosts"
            if known.is_file():
                self.run("ssh-keygen", "-R", names["internal_ip"], "-f", known)

    def _release(self) -> Path:
        given = Path(self.setting("SERVER_LOCAL_RELEASE", "none"))
        if given.is_file():
            return given.resolve()
        built = Path("cpi").resolve()
        self.run(self.cpi / "bin/vendor")
        self.run("bosh", "create-release", f"--dir={self.cpi}", "--force", f"--tarball={built}")
        return built

    def _bosh_deployment(self) -> Path:
        return Path(self.setting("BOSH_DEPLOYMENT_DIR") or Path.home() / "Documents/Source/bosh-deployment")

    def do_cloud_config(self) -> None:
        """Upload cloud-config.yml to the director."""
        self.enter_director()
        self.run("bosh", "update-cloud-config", self.configuration / "cloud-config.yml")

    def do_runtime_config(self) -> None:
        """Upload bosh-dns's runtime config, and with SERVER_ENABLE_AGENT that of the server's own agent."""
        self.enter_director()
        if self.setting("BOSH_DEPLOYMENT_DIR"):
            self.run(
                "bosh", "update-runtime-config", "--name=bosh-dns", self._bosh_deployment() / "runtime-configs/dns.yml"
            )
        else:
            print(
                "util: BOSH_DEPLOYMENT_DIR is not set, so bosh-dns is left out; Cloud Foundry needs it", file=sys.stderr
            )
        if self.setting("SERVER_ENABLE_AGENT"):
            kind = self.setting("SERVER_TYPE", "lxd")
            self.run(
                "bosh",
                "update-runtime-config",
                f"--name={kind}-agent",
                f"--var=server_type={kind}",
                self.cpi / "manifests/runtime-config.yml",
            )

    def do_upload_stemcells(self, *which: str) -> None:
        """Upload the stemcells of the named lines, by default jammy. `new` fetches them even if one is there."""
        self.enter_director()
        present = self._rows("stemcells")
        for line in [name for name in which if name != "new"] or ["jammy"]:
            if "new" not in which and any(row.get("os") == f"ubuntu-{line}" for row in present):
                print(f"the director has a stemcell of {line}")
            else:
                suffix = "-go_agent" if line in ("bionic", "jammy", "xenial") else ""
                self.run(
                    "bosh",
                    "upload-stemcell",
                    self._download(f"stemcell/ubuntu-{line}", STEMCELLS.format(line + suffix), which),
                )

    def do_upload_releases(self, *which: str) -> None:
        """Upload the release that deploy_postgres needs. `new` fetches it even if one is there."""
        self.enter_director()
        if "new" not in which and any(row.get("name") == "postgres" for row in self._rows("releases")):
            print("the director has the release postgres")
        else:
            url = "https://bosh.io/d/github.com/cloudfoundry/postgres-release"
            self.run("bosh", "upload-release", self._download("release/postgres-release", url, which))

    def _rows(self, what: str) -> list[dict[str, str]]:
        answer = json.loads(self.ask("bosh", what, "--json") or "{}")
        return [row for table in answer.get("Tables") or [] for row in table.get("Rows") or []]

    def _download(self, path: str, url: str, which: tuple[str, ...]) -> str:
        if "new" in which or not Path(path).is_file():
            self.run("curl", "--fail", "--location", "--create-dirs", f"--output={path}.part", url)
            self.run("mv", f"{path}.part", path)
        return path

    def do_deploy_postgres(self, *more: str) -> None:
        """Deploy a PostgreSQL."""
        self._deploy(
            "postgres", self.cpi / "manifests/postgres.yml", [], [self.configuration / "postgres-vars.yml"], *more
        )

    def do_deploy_concourse(self, *more: str) -> None:
        """Deploy Concourse."""
        source = Path(self.needed("CONCOURSE_DIR"))
        operations = [
            source / f"cluster/operations/{name}.yml"
            for name in ("backup-atc", "basic-auth", "static-web", "privileged-http")
        ]
        self._deploy(
            "concourse",
            source / "cluster/concourse.yml",
            operations,
            [source / "versions.yml", self.configuration / "concourse-vars.yml"],
            *more,
        )

    def do_deploy_cf(self, *more: str) -> None:
        """Deploy Cloud Foundry."""
        source = Path(self.needed("CF_DEPLOYMENT_DIR"))
        operations = [
            source / f"operations/{name}.yml"
            for name in (
                "use-compiled-releases",
                "use-latest-stemcell",
                "override-app-domains",
                "scale-to-one-az",
                "use-haproxy",
            )
        ]
        self._deploy(
            "cf", source / "cf-deployment.yml", operations, [self.configuration / "cloudfoundry-vars.yml"], *more
        )

    def _deploy(self, name: str, manifest: Path, ops: list[Path], variables: list[Path], *more: str) -> None:
        self.enter_director(name)
        store = [] if name == "cf" else [f"--vars-store=creds/{name}.yml"]  # cf's are in the director's CredHub
        self.run(
            "bosh",
            "deploy",
            manifest,
            *(f"--ops-file={path}" for path in ops),
            *store,
            *(f"--vars-file={path}" for path in variables),
            *more,
        )

    def do_capture_requests(self, log: str = "log") -> None:
        """Take requests and answers out of a debug log of bosh, without their secrets, into requests/.

        Where `log` is a directory, it is one of BOSH_LXD_CPI_CAPTURE: its captures are gathered as they are.
        """
        if Path(log).is_dir():
            for capture in sorted(Path(log).glob("*.json")):
                self.write(f"requests/{capture.name}", capture.read_text("utf-8"))
            return
        sys.path.insert(0, str(ROOT))
        from bosh_lxd_cpi.runtime.log import Log, secrets_in

        shutil.rmtree("requests", ignore_errors=True)
        text = Path(log).read_text("utf-8", errors="replace")
        for kind, word in (("request", "STDIN"), ("response", "STDOUT")):
            for number, found in enumerate(re.findall(rf"(?m)^{word}: '(.*)\s*'$", text), 1):
                document = json.loads(found)
                redactor = Log("")
                redactor.hide(secrets_in(document))
                self.write(f"requests/{kind}-{number}.json", redactor.redact(json.dumps(document, indent=2)) + "\n")
