from __future__ import annotations

import json
import re
import signal

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor import main, smoke_test
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.admin.output import FAIL, OK, WARN
from bosh_lxd_cpi.config.schema import Config
from bosh_lxd_cpi.runtime import throttle
from tests.support import schema

KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWtleS1saW5l\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def config(tmp_path):
    """Return a function that writes a configuration and returns the arguments for it."""

    def write(**tree):
        file = tmp_path / "cpi.json"
        file.write_text(json.dumps({"throttle_config": {"path": str(tmp_path / "locks")}, **tree}), encoding="utf-8")
        return ["--config", str(file)]

    return write


def run(arguments, capsys):
    """Return exit status and results."""
    status = main.main([*arguments, "--json"])
    shown = capsys.readouterr()
    assert shown.err == ""
    results = json.loads(shown.out)
    schema.check(results, "doctor")
    assert {result.pop("cpi") for result in results} == {""}
    return status, [CheckResult(**result) for result in results]


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    for word in (
        "--config",
        "--json",
        "--cidr",
        "--gateway",
        "--cpu",
        "--ip",
        "--deep",
        "--locks",
        "Exit status: 0 if",
    ):
        assert word in shown


@pytest.mark.parametrize("argv", [["--deep", "--locks"], ["--cidr", "10.0.0.0/33"], ["--ip", "ten"], ["now"]])
def test_exits_with_2_for_invalid_arguments(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(argv)
    assert ended.value.code == 2 and capsys.readouterr().out == ""


def test_exits_with_2_if_the_configuration_is_unreadable(tmp_path, capsys):
    assert main.main(["--config", str(tmp_path / "none")]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    assert shown.err.startswith("doctor: the configuration file ")


def test_reports_every_invalid_property_and_continues(config, tmp_path, capsys):
    server = {"url": "lxd.example.com", "storage_pol_name": "x", "predeploy_stemcell": "maybe"}
    status, results = run(config(server=server, sever={}), capsys)
    configuration = [(result.status, result.message) for result in results if result.check == "configuration"]
    assert status == 1
    assert configuration == [
        (FAIL, "server.predeploy_stemcell must be true or false"),
        (FAIL, "server.url must be https://HOST:8443 or unix:///PATH, not lxd.example.com"),
        (FAIL, "agent.mbus is missing"),
        (WARN, "unknown property server.storage_pol_name (did you mean storage_pool_name?)"),
        (WARN, "unknown property sever (did you mean server?)"),
    ]
    assert [result.check for result in results if result.status == OK] == ["lock directory"]


def test_reports_an_invalid_client_key_without_showing_it(config, capsys):
    server = {"url": "https://127.0.0.1:1", "tls_client_cert": "-----BEGIN CERTIFICATE-----\n", "tls_client_key": KEY}
    _, results = run(config(server=server, agent={"mbus": "nats://u:very-secret@h"}), capsys)
    assert "the client certificate and the client key cannot be used" in results[0].message
    assert "c2VjcmV0LWtleS1saW5l" not in str(results) and "very-secret" not in str(results)


def test_reports_a_missing_socket_once(config, tmp_path, capsys):
    server = {"url": f"unix://{tmp_path}/no.socket", "type": "incus"}
    _, results = run(config(server=server, agent={"mbus": "m"}), capsys)
    [failed] = [result for result in results if result.status != OK]
    assert (failed.check, failed.message) == ("address", f"the socket {tmp_path}/no.socket does not exist")
    assert "`incus config set core.https_address" in failed.hint


def test_skips_deep_after_failures(config, tmp_path, capsys):
    arguments = config(server={"url": f"unix://{tmp_path}/no.socket"}, agent={"mbus": "m"})
    status, results = run([*arguments, "--deep"], capsys)
    assert (status, results[-1].check, results[-1].message) == (1, "deep", "not run")


def test_prints_colors_to_terminals_only(config, tmp_path, capsys, monkeypatch):
    arguments = config(server={"url": f"unix://{tmp_path}/no.socket"}, agent={"mbus": "m"})
    assert main.main(arguments) == 1
    plain = capsys.readouterr().out
    lines = plain.splitlines()
    assert lines[0] == f"ok    configuration       {tmp_path}/cpi.json"
    assert lines[2].startswith("fail  address             the socket ")
    assert lines[3].startswith("      -> Check that the server runs")
    assert lines[-2] == "2 ok, 0 warnings, 1 failed"
    assert lines[-1].startswith("Do this first (address): Check that the server runs")

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "1000")
    main.main(arguments)
    colored = capsys.readouterr().out
    assert colored.startswith("\033[32mok  \033[0m  configuration") and "\033[31mfail\033[0m" in colored
    assert re.sub(r"\033\[\d+m", "", colored) == plain

    monkeypatch.setenv("NO_COLOR", "1")
    main.main(arguments)
    assert capsys.readouterr().out == plain


def test_cuts_lines_without_problem_to_the_terminal(config, tmp_path, capsys, monkeypatch):
    arguments = config(server={"url": f"unix://{tmp_path}/no.socket"}, agent={"mbus": "m"})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")
    main.main(arguments)
    first, _, failed, *_ = capsys.readouterr().out.splitlines()
    assert len(first) == 30 and first.endswith("\u2026")
    assert failed.endswith("/no.socket does not exist")
    main.main([*arguments, "--verbose"])
    assert capsys.readouterr().out.splitlines()[0] == f"ok    configuration       {tmp_path}/cpi.json"


def test_quiet_prints_problems_only(config, tmp_path, capsys):
    arguments = config(server={"url": f"unix://{tmp_path}/no.socket"}, agent={"mbus": "m"})
    assert main.main([*arguments, "--quiet"]) == 1
    problem, hint = capsys.readouterr().out.splitlines()
    assert problem.startswith("fail  address ") and hint.startswith("      -> ")


def test_lists_the_holders_of_slots(config, tmp_path, capsys):
    arguments = config(throttle_config={"path": str(tmp_path / "slots"), "limit": 2})
    assert main.main([*arguments, "--locks"]) == 0
    assert capsys.readouterr().out == f"0 of 2 slots held in {tmp_path}/slots\n"
    settings = throttle.Settings(True, str(tmp_path / "slots"), 2, 0.0, 1.0)
    with throttle.slot(settings, label="create_vm cpi-12", log=print):
        main.main([*arguments, "--locks"])
        first, last = capsys.readouterr().out.splitlines()
        assert first.startswith("slot-00  create_vm cpi-12  since 20") and last.startswith("1 of 2 slots held")
        main.main([*arguments, "--locks", "--json"])
        [held] = holders = json.loads(capsys.readouterr().out)
        schema.check(holders, "doctor-locks")
        assert (held["slot"], held["label"]) == ("slot-00", "create_vm cpi-12")


@pytest.fixture
def context(wire, clock, log):
    context = CheckContext(Config(), clock=clock, log=log)
    context.transport = wire
    return context


@pytest.fixture
def removals(monkeypatch):
    """The numbers of checks that the smoke test demanded for its cleanup."""
    removals = []
    monkeypatch.setattr(smoke_test, "_remove_all", lambda actions, checks: removals.append(checks))
    return removals


def test_smoke_test_cleans_up_after_a_signal(context, removals, monkeypatch, capsys):
    monkeypatch.setattr(smoke_test.stemcells, "create_stemcell", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(errors.Interrupted):
        smoke_test.run(context, ip=None, report=print)
    signal.raise_signal(signal.SIGINT)  # ignored by now
    assert removals == [smoke_test.CHECKS_AFTER_INTERRUPTION]
    assert capsys.readouterr().err == "doctor: stopped, cleaning up ...\n"


def test_smoke_test_ends_after_a_signal_in_create_vm(context, removals, monkeypatch):
    def create_vm(*_):
        try:
            signal.raise_signal(signal.SIGTERM)
        except errors.Interrupted as failure:
            raise errors.VMCreationFailed(str(failure), ok_to_retry=True) from failure

    monkeypatch.setattr(smoke_test.stemcells, "create_stemcell", lambda *_: "img-1")
    monkeypatch.setattr(smoke_test.create_vm, "create_vm", create_vm)
    results = []
    with pytest.raises(errors.Interrupted):
        smoke_test.run(context, ip=None, report=results.append)
    assert [(result.check, result.status) for result in results] == [("deep jammy", OK)]
    assert removals == [smoke_test.CHECKS_AFTER_INTERRUPTION]


def test_smoke_test_continues_with_the_next_line_after_a_failure(context, removals, monkeypatch):
    def create_stemcell(*_):
        raise errors.ServerError("the pool is full")

    monkeypatch.setattr(smoke_test.stemcells, "create_stemcell", create_stemcell)
    results = []
    smoke_test.run(context, ip=None, report=results.append)
    message = "import an image failed after 0.0 s: the pool is full"
    assert [(result.check, result.status, result.message) for result in results] == [
        ("deep jammy", FAIL, message),
        ("deep noble", FAIL, message),
        ("deep", OK, "all resources are removed"),
    ]
    assert removals == [1, 1, 1], "before the other line, after it, and at the end"
