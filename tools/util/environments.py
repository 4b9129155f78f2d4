"""The subcommand that prints the environment variables of clients: bosh, cf, credhub, psql, uaa."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from director import Director
from shell import UtilError


class Environments(Director):
    """Environment variables with which clients log in to the director and its deployments."""

    def do_env(self, client: str = "bosh") -> None:
        """Print the environment variables of a CLIENT: bosh (default), cf, credhub, psql, uaa or uaa-cf.

        Run eval "$(util env)" in bash or zsh to set them. They contain passwords.
        cf and uaa-cf read passwords from CredHub, so they need the credhub client.
        """
        environments = self.environments()
        if client not in environments:
            raise UtilError(f"there is no environment of {client}; use one of {', '.join(environments)}")
        for name, value in environments[client]().items():
            print(f"export {name}={shlex.quote(value)}")

    def environments(self) -> dict[str, Callable[[], dict[str, str]]]:
        """Return the functions that return the environment variables, by client."""
        return {
            "bosh": self._bosh,
            "cf": self._cf,
            "credhub": self._credhub,
            "psql": self._psql,
            "uaa": self._uaa,
            "uaa-cf": self._uaa_cf,
        }

    def _bosh(self) -> dict[str, str]:
        environment = self.director_environment()
        key = Path("creds/jumpbox.pk")
        if self.setting("BOSH_JUMPBOX_ENABLE") and key.is_file():
            address = environment["BOSH_ENVIRONMENT"]
            environment["BOSH_ALL_PROXY"] = f"ssh+socks5://jumpbox@{address}:22?private-key={key.resolve()}"
        return environment

    def _credhub(self) -> dict[str, str]:
        proxy = self._bosh().get("BOSH_ALL_PROXY")
        [address] = self.required_variables("internal_ip")
        authorities = [self.credential(path).strip() for path in ("/credhub_tls/ca", "/uaa_ssl/ca")]
        environment = {
            "CREDHUB_SERVER": f"https://{address}:8844",
            "CREDHUB_CLIENT": "credhub-admin",
            "CREDHUB_SECRET": self.credential("/credhub_admin_client_secret").strip(),
            "CREDHUB_CA_CERT": "\n".join(authorities) + "\n",
        }
        return environment | ({"CREDHUB_PROXY": proxy} if proxy else {})

    def _cf(self) -> dict[str, str]:
        [domain] = self.required_variables("system_domain", file="cloudfoundry-vars.yml")
        return {
            "CF_API": f"https://api.{domain}",
            "CF_USERNAME": "admin",
            "CF_PASSWORD": self._credhub_password("cf_admin_password"),
        }

    def _psql(self) -> dict[str, str]:
        [host] = self.required_variables("postgres_host_or_ip", file="postgres-vars.yml")
        store = "creds/postgres.yml"
        self.require_file(Path(store), "run util deploy_postgres")
        password = self.credential("/pgadmin_database_password", store).strip()
        database = {"PGHOST": host, "PGPORT": "5524", "PGDATABASE": "sandbox"}
        return database | {"PGUSER": "pgadmin", "PGPASSWORD": password}

    def _uaa(self) -> dict[str, str]:
        [address] = self.required_variables("internal_ip")
        return {
            "UAA_TARGET": f"https://{address}:8443",
            "UAA_CLIENT": "uaa_admin",
            "UAA_CLIENT_SECRET": self.credential("/uaa_admin_client_secret").strip(),
        }

    def _uaa_cf(self) -> dict[str, str]:
        [domain] = self.required_variables("system_domain", file="cloudfoundry-vars.yml")
        return {
            "UAA_TARGET": f"https://uaa.{domain}",
            "UAA_CLIENT": "admin",
            "UAA_CLIENT_SECRET": self._credhub_password("uaa_admin_client_secret"),
        }

    def _credhub_password(self, name: str) -> str:
        """Return a password of the deployment cf, which the CredHub of the director stores."""
        self.environ |= self._credhub()
        [director] = self.required_variables("director_name")
        return self.output("credhub", "get", "--name", f"/{director}/cf/{name}", "--quiet").strip()
