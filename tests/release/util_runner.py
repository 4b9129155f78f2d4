"""bin/util with stubs for all that it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bosh_release

STUB = """#!{python} -S
import json, os, sys
with open({calls!r}, "a") as file:
    print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]), file=file)
line = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
for beginning, answer in json.load(open({answers!r})).items():
    if line.startswith(beginning):
        sys.stdout.write(answer)
        sys.exit()
sys.exit("Error: stubborn" if {fail!r} in line else 0)
"""


class Bench:
    """bin/util in an empty directory, with stubs that note how they are called and give canned answers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls_file, self.answers = folder, folder / "calls", {}
        self.environ: dict[str, str] = {"PATH": f"{folder / 'stubs'}:/usr/bin:/bin", "HOME": str(folder)}
        self.says = self.complains = ""
        (folder / "stubs").mkdir()
        (folder / "here").mkdir()

    def util(
        self,
        *arguments: str,
        status: int = 0,
        typed: str = "",
        fail: str = "nothing",
        program: tuple[str, ...] = (str(bosh_release.ROOT / "bin/util"),),
        **environ: str,
    ) -> list[list[str]]:
        """The commands that were started."""
        self.calls_file.unlink(missing_ok=True)
        (self.folder / "answers").write_text(json.dumps(self.answers))
        for name in ("bosh", "lxc", "incus", "curl", "ssh-keygen", "mv"):
            stub = self.folder / "stubs" / name
            stub.write_text(
                STUB.format(
                    python=sys.executable, calls=str(self.calls_file), answers=str(self.folder / "answers"), fail=fail
                )
            )
            stub.chmod(0o755)
        run = subprocess.run(
            [*program, *arguments],
            cwd=self.folder / "here",
            env=self.environ | environ,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )
        self.says, self.complains = run.stdout, run.stderr
        assert run.returncode == status, run.stderr
        return (
            [json.loads(line) for line in self.calls_file.read_text().splitlines()] if self.calls_file.exists() else []
        )
