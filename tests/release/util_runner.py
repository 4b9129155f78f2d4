"""Run bin/util with stubs for bosh and other clients. All other programs are the real ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.release import bosh_release

STUB = """#!{python} -S
import json, os, sys
words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
with open({calls!r}, "a") as file:
    print(json.dumps(words), file=file)
for word in words:
    option, _, path = word.partition("=")
    if option in ("--tarball", "--vars-store"):
        with open(path, "w") as file:
            file.write("written by bosh")
line = " ".join(words)
if words[0] in ("lxc", "incus") and sys.stdin.read():
    sys.exit("Error: the configuration on stdin is invalid")
for beginning, output in json.load(open({outputs!r})).items():
    if line.startswith(beginning):
        sys.stdout.write(output)
        sys.exit()
sys.exit("Error: not allowed" if {fail!r} in line else 0)
"""


class UtilRunner:
    """Run bin/util in an empty directory. Stubs record their arguments and print predefined output."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls_file = folder, folder / "calls"
        self.work = folder / "work"
        self.outputs: dict[str, str] = {}
        self.environ: dict[str, str] = {"PATH": f"{folder / 'stubs'}:/usr/bin:/bin", "HOME": str(folder)}
        self.stdout = self.stderr = ""
        self.stubs: tuple[str, ...] = ("bosh", "lxc", "incus", "cf", "credhub", "uaa")
        (folder / "stubs").mkdir()
        self.work.mkdir()

    def add_director(self) -> None:
        """Create the files that deploy_bosh needs, and the credentials that it writes."""
        (self.work / "creds").mkdir(exist_ok=True)
        for path in ("bosh-client.crt", "bosh-client.key", "creds/bosh.yml"):
            (self.work / path).write_text("x")
        for path in ("bd/bosh.yml", "cf/cf-deployment.yml", "concourse/cluster/concourse.yml"):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text("x")
        self.environ |= {
            "BOSH_DEPLOYMENT_DIR": str(self.folder / "bd"),
            "CF_DEPLOYMENT_DIR": str(self.folder / "cf"),
            "CONCOURSE_DIR": str(self.folder / "concourse"),
            "SERVER_URL": "https://lxd:8443",
        }

    def util(
        self,
        *arguments: str,
        status: int = 0,
        stdin: str = "",
        fail: str = "nothing",
        program: tuple[str, ...] = (str(bosh_release.ROOT / "bin/util"),),
        **environ: str,
    ) -> list[list[str]]:
        """Run util and return the commands that the stubs recorded. Commands that contain `fail` fail."""
        self.calls_file.unlink(missing_ok=True)
        outputs = self.folder / "outputs"
        outputs.write_text(json.dumps(self.outputs))
        for name in self.stubs:
            stub = self.folder / "stubs" / name
            stub.write_text(
                STUB.format(python=sys.executable, calls=str(self.calls_file), outputs=str(outputs), fail=fail)
            )
            stub.chmod(0o755)
        process = subprocess.run(
            [*program, *arguments],
            cwd=self.work,
            env=self.environ | environ,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        self.stdout, self.stderr = process.stdout, process.stderr
        assert process.returncode == status, process.stderr
        assert "Traceback" not in process.stderr
        return (
            [json.loads(line) for line in self.calls_file.read_text().splitlines()] if self.calls_file.exists() else []
        )
