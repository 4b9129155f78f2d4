from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.release import bosh_release
from tests.release.util_runner import UtilRunner

UTIL = bosh_release.ROOT / "bin/util"


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        (["util", "deploy_c"], ["deploy_cf", "deploy_concourse"]),
        (["util", "help", "destr"], ["destroy"]),
        (["util", "--dry-run", "init"], ["init_lxd"]),
        (["util", "env", "uaa"], ["uaa", "uaa-cf"]),
        (["util", "completion", ""], ["bash", "zsh"]),
        (["util", "capture_requests", "x"], []),
    ],
    ids=" ".join,
)
def test_completes_in_bash(words: list[str], completions: list[str]) -> None:
    script = (
        f'source <({UTIL} completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _util; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (completions, "")


def test_completes_in_zsh(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A shell in a terminal of its own completes a subcommand, as for a person who presses the tab key."""
    program = shutil.which("zsh")
    assert program, "install zsh"
    script = f"""
        zmodload zsh/zpty
        zpty terminal {program} -f -i
        zpty -w terminal 'autoload -Uz compinit; compinit -u -D; source <({UTIL} completion zsh)'
        zpty -w terminal 'util() {{ print "called" "$@" ready }}'
        zpty -w -n terminal $'util deploy_con\\t\\n'
        while zpty -r terminal line; do [[ $line = *'called deploy_concourse ready'* ]] && break; done
        print -r -- $line
        zpty -d terminal
    """
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path_factory.mktemp("home")), "TERM": "dumb"}
    done = subprocess.run(
        [program, "-f", "-c", script], capture_output=True, text=True, env=environ, check=True, timeout=60
    )
    assert "called deploy_concourse ready" in done.stdout


def test_rejects_other_shells(runner: UtilRunner) -> None:
    runner.util("completion", "fish", status=1)
    assert runner.stderr == "util: there is no completion for fish; use bash or zsh\n"
