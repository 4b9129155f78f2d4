"""The pictures of terminal sessions in docs/images have the lines that the programs print."""

from __future__ import annotations

import re
import subprocess

from tests.host import pictures
from tests.host.director import ROOT
from tests.support import terminal

REMAKE = "run python3 -m tests.host.pictures"


def picture(name: str) -> list[str]:
    return pictures.lines((pictures.IMAGES / f"{name}.svg").read_text("utf-8"))


def output_lines(command: str, output: str) -> list[str]:
    return pictures.lines(terminal.svg(command, output))


def test_picture_of_a_deployment_is_current():
    assert picture("deploy-bosh") == output_lines(*pictures.deploy_bosh()), REMAKE


def test_picture_of_the_doctor_is_current(host):
    """Checks and statuses are compared, because the host of the tests has other disks and images."""

    def statuses(lines: list[str]) -> list[str]:
        return [line[:24] for line in lines if re.match("ok|warn|fail|skip", line)]

    assert statuses(picture("doctor")) == statuses(output_lines(*pictures.doctor(host))), REMAKE


def test_picture_of_the_demo_is_current():
    """The demo runs against a recording. The steps and the lines of the guest's report are compared."""

    def steps(lines: list[str]) -> list[str]:
        return [re.sub(r"(\.+| \.\.\.|#)?  \[.*", "", line) for line in lines if re.match(r"#\. |  ok ", line)]

    done = subprocess.run([ROOT / "bin/demo", "--replay"], capture_output=True, text=True, check=True)
    shown = steps(picture("demo"))
    assert len(shown) == 17 and shown == steps(output_lines("bin/demo", done.stdout)), REMAKE


def test_pictures_are_wrapped_and_coloured():
    output = f"ok    check   {'word ' * 30}\nfail  <b>     no\n\n  last line"
    picture = terminal.svg("program", output)
    lines = terminal.text(picture)
    assert lines[0] == "$ program" and lines[-1] == "  last line"
    assert all(len(line) <= terminal.COLUMNS for line in lines)
    assert lines[2].startswith(" " * 14 + "word")
    assert '<tspan class="fail">fail</tspan>  &lt;b&gt;' in picture
