from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.admin.doctor import main, smoke_test
from bosh_lxd_cpi.admin.doctor.result import FAIL, OK, WARN, CheckResult
from bosh_lxd_cpi.runtime import throttle

DOCS = Path(__file__).resolve().parents[2] / "docs/troubleshoot.md"
KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWtleS1saW5l\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def config(tmp_path):
    """Writes the configuration and answers the arguments that name it."""

    def write(**tree):
        file = tmp_path / "cpi.json"
        file.write_text(json.dumps({"throttle_config": {"path": str(tmp_path / "locks")}, **tree}), encoding="utf-8")
        return ["--config", str(file)]

    return write


def examine(arguments, capsys):
    status = main.main([*arguments, "--json"])
    shown = capsys.readouterr()
    assert shown.err == ""
    return status, [CheckResult(**one) for one in json.loads(shown.out)]


def test_help_names_every_option_and_the_exit_status(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    for word in ("--config", "--json", "--cidr", "--gateway", "--ip", "--deep", "--locks", "Exit status: 0, 1"):
        assert word in shown


@pytest.mark.parametrize("argv", [["--deep", "--locks"], ["--cidr", "10.0.0.0/33"], ["--ip", "ten"], ["now"]])
def test_a_wrong_command_line_is_status_2(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(argv)
    assert ended.value.code == 2 and capsys.readouterr().out == ""


def test_a_configuration_that_cannot_be_read_is_status_2(tmp_path, capsys):
    assert main.main(["--config", str(tmp_path / "none")]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    assert shown.err.startswith("doctor: the configuration file ")


def test_every_fault_and_unknown_key_is_told_and_the_checks_go_on(config, tmp_path, capsys):
    server = {"url": "lxd.example.com", "storage_pol_name": "x", "predeploy_stemcell": "maybe"}
    status, findings = examine(config(server=server, sever={}), capsys)
    told = [(one.status, one.found) for one in findings if one.check == "configuration"]
    assert status == 1
    assert told == [
        (FAIL, "server.predeploy_stemcell must be true or false"),
        (FAIL, "server.url must be https://HOST:8443 or unix:///PATH, not lxd.example.com"),
        (FAIL, "agent.mbus is missing"),
        (WARN, "unknown property server.storage_pol_name (did you mean storage_pool_name?)"),
        (WARN, "unknown property sever (did you mean server?)"),
    ]
    assert [one.check for one in findings if one.status == OK] == ["lock directory"]


def test_a_key_that_is_none_is_a_fault_of_the_configuration_and_never_shown(config, capsys):
    server = {"url": "https://127.0.0.1:1", "tls_client_cert": "-----BEGIN CERTIFICATE-----\n", "tls_client_key": KEY}
    _, findings = examine(config(server=server, agent={"mbus": "nats://u:very-secret@h"}), capsys)
    assert "tls_client_key are not a certificate and its key" in findings[0].found
    assert "c2VjcmV0LWtleS1saW5l" not in str(findings) and "very-secret" not in str(findings)


def test_a_socket_that_is_not_there_is_told_once(config, tmp_path, capsys):
    server = {"url": f"unix://{tmp_path}/no.socket", "type": "incus"}
    _, findings = examine(config(server=server, agent={"mbus": "m"}), capsys)
    [failed] = [one for one in findings if one.status != OK]
    assert (failed.check, failed.found) == ("address", f"there is no socket {tmp_path}/no.socket")
    assert "`incus config set core.https_address" in failed.hint


def test_deep_waits_until_all_else_is_well(config, tmp_path, capsys):
    arguments = config(server={"url": f"unix://{tmp_path}/no.socket"}, agent={"mbus": "m"})
    status, findings = examine([*arguments, "--deep"], capsys)
    assert (status, findings[-1].check, findings[-1].found) == (1, "deep", "not tried")


def test_lines_are_for_people_and_coloured_for_terminals_only(config, tmp_path, capsys, monkeypatch):
    arguments = config(server={"url": f"unix://{tmp_path}/no.socket"}, agent={"mbus": "m"})
    assert main.main(arguments) == 1
    plain = capsys.readouterr().out
    lines = plain.splitlines()
    assert lines[0] == f"ok    configuration       {tmp_path}/cpi.json"
    assert lines[2].startswith("fail  address             there is no socket ")
    assert lines[3].startswith("      -> Is the server")
    assert lines[-1] == "2 ok, 0 to look at, 1 failed"

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    main.main(arguments)
    coloured = capsys.readouterr().out
    assert coloured.startswith("\033[32mok  \033[0m  configuration") and "\033[31mfail\033[0m" in coloured
    assert re.sub(r"\033\[\d+m", "", coloured) == plain

    monkeypatch.setenv("NO_COLOR", "1")
    main.main(arguments)
    assert capsys.readouterr().out == plain


def test_who_holds_a_slot(config, tmp_path, capsys):
    arguments = config(throttle_config={"path": str(tmp_path / "slots"), "limit": 2})
    assert main.main([*arguments, "--locks"]) == 0
    assert capsys.readouterr().out == f"0 of 2 slots held in {tmp_path}/slots\n"
    settings = throttle.Settings(True, str(tmp_path / "slots"), 2, 0.0, 1.0)
    with throttle.slot(settings, label="create_vm cpi-12", log=print):
        main.main([*arguments, "--locks"])
        first, last = capsys.readouterr().out.splitlines()
        assert first.startswith("slot-00  create_vm cpi-12  since 20") and last.startswith("1 of 2 slots held")
        main.main([*arguments, "--locks", "--json"])
        [held] = json.loads(capsys.readouterr().out)
        assert (held["slot"], held["label"]) == ("slot-00", "create_vm cpi-12")


def test_of_many_signals_the_first_interrupts_and_the_others_do_not():
    before = signal.getsignal(signal.SIGTERM)
    with smoke_test._Interruptible() as interrupt:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        for number in smoke_test.SIGNALS:
            signal.raise_signal(number)
        assert interrupt.happened
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_was_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with smoke_test._Interruptible() as interrupt:
        signal.raise_signal(signal.SIGHUP)
        assert not interrupt.happened


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table after a heading of the page."""
    section = DOCS.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[2:]]


def test_the_page_has_every_mend_as_the_program_tells_it():
    told = {problem.strip("`"): hint for problem, _, hint in rows("By message")}
    assert told == {problem: hints.text(problem, client="incus") for problem in hints.HINTS}


def test_the_page_has_every_type_of_error_and_says_what_passes():
    def tree(error):
        yield error
        for below in error.__subclasses__():
            if below.__module__ == errors.__name__:
                yield from tree(below)

    told = {name: (kind, passes) for name, kind, passes, _ in rows("By type of error")}
    assert told == {
        error.__name__: (error.type.removeprefix("Bosh::Clouds::"), "yes" if error.transient else "no")
        for error in tree(errors.CpiError)
    }
