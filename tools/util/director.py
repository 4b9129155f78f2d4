"""Subcommands that deploy, check, enter and delete a director."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import release
from shell import Shell


class Director(Shell):
    """The director in state.json."""

    def enter_director(self, deployment: str = "") -> None:
        """Set the environment of the following bosh commands to the director that deploy_bosh created.

        Raise UtilError if there are no credentials.
        """
        self.environ |= self.director_environment()
        self.environ |= {"BOSH_DEPLOYMENT": deployment} if deployment else {}

    def director_environment(self) -> dict[str, str]:
        """Return the environment variables with which bosh uses the director. Raise UtilError without credentials."""
        self.require_file(
            Path("creds/bosh.yml"), "run util deploy_bosh here, or change to the directory where you ran it"
        )
        [address] = self.required_variables("internal_ip")
        environment = {"BOSH_ENVIRONMENT": address, "BOSH_CLIENT": "admin"}
        for name, path in (("BOSH_CLIENT_SECRET", "/admin_password"), ("BOSH_CA_CERT", "/director_ssl/ca")):
            environment[name] = self.credential(path).rstrip("\n")
        return environment

    def do_deploy_bosh(self, *bosh_arguments: str) -> None:
        """Deploy a director, or update it.

        The director is deployed again only if the release, the manifest or the stemcell has changed.
        BOSH_ARGUMENTs are appended to `bosh create-env`.
        """
        self.run_private("bosh", "create-env", *self._environment_arguments(), *bosh_arguments)
        if self.setting("BOSH_JUMPBOX_ENABLE"):
            self._write_jumpbox_key()
        if not self.dry_run:
            [address] = self.required_variables("internal_ip")
            print(f"The director is deployed at {address}. Its state is in state.json and creds/: keep both.")
            print('To use bosh in this shell, run: eval "$(util env)"')
            print("Next: util cloud_config, util runtime_config and util upload_stemcells.")

    def do_delete_bosh(self, *bosh_arguments: str) -> None:
        """Delete the director, its disk and its stemcell. Delete the deployments first: the director deletes their VMs.

        BOSH_ARGUMENTs are appended to `bosh delete-env`.
        """
        self.require_file(
            Path("state.json"), "change to the directory where you ran util deploy_bosh, or set STATE_DIR"
        )
        self.run_private("bosh", "delete-env", *self._environment_arguments(), *bosh_arguments)
        if not self.dry_run:
            print("The director is deleted. creds/ remains. On the server, the pool, the network, the project and the")
            print("client certificate remain.")

    def do_doctor(self, *doctor_arguments: str) -> None:
        """Check the server for reasons why deploy_bosh would fail.

        The properties are those that deploy_bosh passes to the CPI. The server must have the CPUs of the largest VM
        type in cloud-config.yml. DOCTOR_ARGUMENTs are appended to bin/doctor, for example --deep.
        """
        subnet = self.required_variables("internal_cidr", "internal_gw", "internal_ip")
        options = [f"--{name}={value}" for name, value in zip(("cidr", "gateway", "ip"), subnet, strict=True)]
        options += [f"--cpu={number}" for number in self._largest_number_of_cpus()]
        interpolate = ("bosh", "interpolate", *self._manifest_arguments(), "--path=/cloud_provider/properties")
        with tempfile.TemporaryDirectory() as folder:
            properties = Path(folder) / "properties.yml"
            if not self.dry_run:
                self.protect_credentials()
                self.write(str(properties), self.output(*interpolate))
            self.run(self.cpi / "bin/doctor", f"--config={properties}", *options, *doctor_arguments)

    def _largest_number_of_cpus(self) -> list[int]:
        """Return the CPUs of the largest VM type in cloud-config.yml, or nothing if none has a number."""
        path = self.configuration / "cloud-config.yml"
        text = path.read_text("utf-8") if path.is_file() else ""
        numbers = re.findall(r"(?m)^[^#\n]*\b(?:instance_type: *c|cpu: *)(\d+)", text)
        return sorted(map(int, numbers))[-1:]

    def do_ssh(self, *command: str) -> None:
        """Log in to the director's VM as the user jumpbox, or run a COMMAND there."""
        key = self.require_file(Path("creds/jumpbox.pk"), "set BOSH_JUMPBOX_ENABLE=1 and run util deploy_bosh")
        [address] = self.required_variables("internal_ip")
        options = ("-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=accept-new")
        self.run("ssh", "-i", key, *options, f"jumpbox@{address}", *command)

    def do_dev_release(self) -> None:
        """Build a development release in the current directory: bosh-lxd-cpi-release.tgz."""
        self.run(self.cpi / "bin/vendor")
        self._create_release(Path("bosh-lxd-cpi-release.tgz"))

    def _environment_arguments(self) -> list[str | Path]:
        """Return the arguments that create-env and delete-env have in common."""
        return [*self._manifest_arguments(), "--state=state.json", f"--var=cpi_path={self._release()}"]

    def _manifest_arguments(self) -> list[str | Path]:
        """Return the manifest of the director, its ops files and variables. Raise UtilError if a file is missing."""
        deployment = self._bosh_deployment()
        variables, url = self.variables(), self.required_setting("SERVER_URL")
        prefix = "server" if "server_project_name" in variables else "lxd"
        certificate, key = self._client_certificate()
        arguments: list[str | Path] = [
            self.require_file(deployment / "bosh.yml", "set BOSH_DEPLOYMENT_DIR to a checkout of bosh-deployment"),
            *(f"--ops-file={path}" for path in self._director_ops_files(deployment, variables)),
            "--vars-store=creds/bosh.yml",
            f"--vars-file={self.configuration / 'bosh-vars.yml'}",
            f"--var={prefix}_url={url}",
            f"--var={prefix}_insecure={self.setting('SERVER_INSECURE', 'false')}",
            f"--var-file={prefix}_client_cert={certificate}",
            f"--var-file={prefix}_client_key={key}",
        ]
        server_certificate = self.setting("SERVER_CERT")
        if server_certificate:
            self.require_file(Path(server_certificate), "set SERVER_CERT to the server's certificate")
            arguments.append(f"--var-file=lxd_server_cert={server_certificate}")
        return arguments

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
        key = "" if self.dry_run else self.credential("/jumpbox_ssh/private_key")
        self.write("creds/jumpbox.pk", key)
        known_hosts = Path(self.environ.get("HOME") or Path.home()) / ".ssh/known_hosts"
        if known_hosts.is_file():
            self.run("ssh-keygen", "-R", *self.required_variables("internal_ip"), "-f", known_hosts)

    def credential(self, path: str, file: str = "creds/bosh.yml") -> str:
        """Return a value of a variables store. Raise UtilError if there is none."""
        return self.output("bosh", "interpolate", file, "--path", path)

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
        self._create_release(tarball)
        if tarball.is_file() and not self.dry_run:
            self.write(str(stamp), release.stamp_content(tarball, content))
        return tarball

    def _create_release(self, tarball: Path) -> None:
        self.run("bosh", "create-release", f"--dir={self.cpi}", "--force", f"--tarball={tarball.resolve()}")

    def _bosh_deployment(self) -> Path:
        return Path(self.setting("BOSH_DEPLOYMENT_DIR") or Path.home() / "Documents/Source/bosh-deployment")
