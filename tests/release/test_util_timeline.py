"""`util timeline` on a log that was recorded on a test host, and on short logs with round numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.release import bosh_release
from tests.release.util_runner import UtilRunner

RECORDED = bosh_release.ROOT / "tests/fixtures/timeline.log"
SVG = "{http://www.w3.org/2000/svg}"


def director_log(*calls: tuple[str, str, int, int, str]) -> str:
    """Return a debug log. Each call is its method, thread, the seconds of its start and end, and the log of the CPI."""
    lines = []
    for number, (method, thread, start, end, err) in enumerate(calls):
        for second, text in (
            (start, f"request: {json.dumps({'method': method, 'arguments': ['vm-1']})} with command: /bin/cpi"),
            (end, f"response: {json.dumps({'result': ['vm-1', {}], 'error': None})}, err: {err}, exit_status: 0"),
        ):
            tag = f"[2026-01-01T10:00:{second:02}.000000 #7] [{thread}] DEBUG -- DirectorJobRunner:"
            lines.append((second, f"D, {tag} [external-cpi] [cpi-{number}] {text}\n"))
            lines.append((second, f"D, {tag} (0.000123s) SELECT 1\n"))
    return "".join(line for _, line in sorted(lines, key=lambda line: line[0]))


def cpi_line(text: str, *, method: str = "create_vm", request_id: str = "cpi-0", second: int = 9) -> str:
    return f"2026-01-01T10:00:{second:02}Z info  {method} {request_id}: {text}\n"


def document(runner: UtilRunner, content: str) -> dict[str, Any]:
    (runner.work / "log").write_text(content)
    runner.util("timeline", "log", "--json")
    return dict(json.loads(runner.stdout))


def test_divides_the_time_of_a_call(runner: UtilRunner) -> None:
    log = cpi_line("waited 3.0 s for a throttle slot") + cpi_line("9 requests in 5.00 s")
    figures = document(runner, director_log(("create_vm", "create_missing_vm(web/6b1c (0)/1)", 1, 11, log)))
    [call] = figures["calls"]
    assert (call["method"], call["subject"], call["request_id"]) == ("create_vm", "web/6b1c", "cpi-0")
    assert (call["start"], call["total"]) == (0, 10)
    assert (call["waiting"], call["server"], call["own"], call["requests"]) == (3, 5, 2, 9)


def test_names_the_vm_if_the_thread_names_no_instance(runner: UtilRunner) -> None:
    log = cpi_line("1 requests in 1.00 s")
    figures = document(runner, director_log(("create_vm", "task:7", 0, 2, log), ("has_vm", "task:7", 3, 5, log)))
    assert [call["subject"] for call in figures["calls"]] == ["vm-1", "vm-1"]
    assert [(row["name"], row["calls"]) for row in figures["subjects"]] == [("vm-1", 2)]


def test_finds_the_limit_with_the_most_vms_a_minute(runner: UtilRunner) -> None:
    """One call alone takes 4 s. Two at once take 6 s each, which is faster. Three at once take 12 s each."""
    calls = [("create_vm", "task", 0, 4, cpi_line("9 requests in 4.00 s"))]
    calls += [("create_vm", "task", 10, 16, cpi_line("9 requests in 6.00 s"))] * 2
    calls += [("create_vm", "task", 20, 32, cpi_line("9 requests in 12.00 s"))] * 3
    figures = document(runner, director_log(*calls))
    rates = [(row["at_once"], row["calls"], row["seconds"], row["per_minute"]) for row in figures["rates"]]
    assert rates == [(1, 1, 4, 15), (2, 2, 6, 20), (3, 3, 12, 15)]
    assert figures["limit"] == 2
    runner.util("timeline")
    assert runner.stdout.endswith("set throttle_config.limit to 2.\n")


def test_waits_for_a_slot_do_not_count_as_work(runner: UtilRunner) -> None:
    """The second call waits until the first one ends, so only one runs at a time."""
    waiting = cpi_line("waited 4.0 s for a throttle slot") + cpi_line("9 requests in 4.00 s")
    calls = [("create_vm", "task", 0, 4, cpi_line("9 requests in 4.00 s")), ("create_vm", "task", 0, 8, waiting)]
    figures = document(runner, director_log(*calls))
    assert [row["at_once"] for row in figures["rates"]] == [1]
    assert figures["limit"] is None


def test_reads_the_log_of_the_cpi(runner: UtilRunner) -> None:
    log = cpi_line("waited 2.0 s for a throttle slot", second=4) + cpi_line("4 requests in 3.00 s", second=7)
    [call] = document(runner, f"[cpiCmdRunner] DEBUG - STDERR: '{log}'")["calls"]
    assert (call["method"], call["total"], call["waiting"], call["server"]) == ("create_vm", 5, 2, 3)


def test_reads_captures(runner: UtilRunner) -> None:
    shutil.copy(bosh_release.ROOT / "tests/fixtures/incus/vm.json", runner.work / "capture.json")
    runner.util("timeline", ".", "--json")
    calls = json.loads(runner.stdout)["calls"]
    methods = [call["method"] for call in calls]
    assert methods[0] == "create_vm" and "delete_vm" in methods
    assert all(0 < call["server"] <= call["total"] for call in calls)


def test_shows_failed_calls(runner: UtilRunner) -> None:
    log = director_log(("create_vm", "task", 0, 4, cpi_line("9 requests in 4.00 s")))
    error = json.dumps({"type": "Bosh::Clouds::CloudError", "message": "the pool <p> is full", "ok_to_retry": False})
    (runner.work / "log").write_text(log.replace('"error": null', f'"error": {error}'))
    runner.util("timeline", "log", "--svg=picture.svg")
    assert "failed: create_vm cpi-0: the pool <p> is full\n" in runner.stdout
    picture = ET.parse(runner.work / "picture.svg")
    assert any("failed: the pool <p> is full" in (title.text or "") for title in picture.iter(f"{SVG}title"))


def test_ignores_a_call_without_response(runner: UtilRunner) -> None:
    log = director_log(("create_vm", "task", 0, 4, ""), ("delete_vm", "task", 5, 6, ""))
    figures = document(runner, "".join(line for line in log.splitlines(True) if "cpi-1] response" not in line))
    assert [call["method"] for call in figures["calls"]] == ["create_vm"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent",), "there is no file or directory absent"),
        (("empty",), "empty contains no calls of the CPI: use the output of bosh task ID --debug"),
        (("empty", "--picture"), "there is no option --picture; timeline has --json and --svg=FILE"),
        (("folder",), "folder/a.json is not a capture"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_reports_wrong_arguments(arguments: tuple[str, ...], message: str, runner: UtilRunner) -> None:
    (runner.work / "empty").touch()
    (runner.work / "folder").mkdir()
    (runner.work / "folder/a.json").write_text("{}")
    runner.util("timeline", *arguments, status=1)
    assert runner.stderr.startswith(f"util: {message}")


def test_picture_has_a_bar_for_each_call(runner: UtilRunner) -> None:
    runner.util("timeline", str(RECORDED), "--svg=picture.svg")
    picture = ET.parse(runner.work / "picture.svg")
    titles = [title.text or "" for title in picture.iter(f"{SVG}title")]
    calls = RECORDED.read_text("utf-8").count("] request: ")
    assert len(titles) == 1 + calls
    assert titles[0].startswith(f"Timeline of {calls} CPI calls in ")
    widths = [float(bar.get("width", "0")) for bar in picture.iter(f"{SVG}rect") if bar.get("class") == "waiting"]
    assert len(widths) > 1  # the legend has one


def test_page_shows_the_recorded_log() -> None:
    """The picture and the tables of the page are those of the recorded log."""
    util = [bosh_release.ROOT / "bin/util", "timeline", RECORDED]
    picture = bosh_release.ROOT / "docs/images/timeline.svg"
    output = subprocess.run(util, capture_output=True, text=True, check=True).stdout
    indented = "".join(f"    {line}" if line.strip() else line for line in output.splitlines(keepends=True))
    assert indented in (bosh_release.ROOT / "docs/how-to/timeline.md").read_text("utf-8")
    new = Path(picture.parent / "timeline.svg.new")
    try:
        subprocess.run([*util, f"--svg={new}"], capture_output=True, check=True)
        assert new.read_text("utf-8") == picture.read_text("utf-8")
    finally:
        new.unlink(missing_ok=True)
