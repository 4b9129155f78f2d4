from __future__ import annotations

import re

import pytest

from bosh_lxd_cpi import errors, hints


@pytest.mark.parametrize("code", hints.HINTS)
def test_every_hint_renders_with_and_without_fields(code):
    names = set(re.findall(r"(?<!\{)\{(\w+)\}", hints.HINTS[code])) - {"client", "add", "sql"}
    without_fields = hints.text(code)
    assert not re.search(r"\{\w+\}", without_fields)
    assert all(name.upper() in without_fields for name in names)
    with_fields = hints.text(code, **{name: f"<{name}>" for name in names})
    assert all(f"<{name}>" in with_fields for name in names)


@pytest.mark.parametrize("code", hints.HINTS)
def test_every_hint_begins_with_an_instruction(code):
    """A word such as Run or Set, and no command line that a reader has to interpret first."""
    assert re.match(r"[A-Z][a-z]+ ", hints.HINTS[code])
    assert not re.match(r"(The|A|An|If|It|To|In|This) ", hints.HINTS[code])


@pytest.mark.parametrize(
    "server, commands",
    [
        ("", "`lxc config trust add bosh.crt` or `incus config trust add-certificate bosh.crt`"),
        ("lxd", "`lxc config trust add bosh.crt`"),
        ("incus", "`incus config trust add-certificate bosh.crt`"),
    ],
    ids=["unknown", "lxd", "incus"],
)
def test_commands_use_the_client_of_the_server(server, commands):
    assert commands in hints.text("forbidden", server=server)


def test_fields_are_not_templates():
    assert "{x}" in hints.text("no_host", url="{x}")


def test_unknown_code_raises():
    with pytest.raises(KeyError):
        hints.text("no_such_code")


def test_fields_of_the_error_override_defaults():
    error = errors.CloudError("brief", code="no_space", pool="fast")
    assert "`lxc storage info fast`" in hints.render(error, server="lxd", pool="default")


def test_defaults_fill_fields_that_the_error_lacks():
    error = errors.CloudError("brief", code="no_space")
    assert "`incus storage info default`" in hints.render(error, server="incus", pool="default")


@pytest.mark.parametrize(
    "brief, code, message",
    [
        ("it failed", "", "it failed"),
        ("it failed.", "", "it failed."),
        ("it failed", "usage", "it failed. Run the program with --help"),
        ("it failed.", "usage", "it failed. Run the program with --help"),
    ],
    ids=["no hint", "period and no hint", "hint", "period and hint"],
)
def test_message_is_brief_and_hint_without_detail(brief, code, message):
    assert hints.message(errors.CloudError(brief, detail="long story", code=code)) == message


def test_message_of_interrupted_has_no_hint():
    assert hints.message(errors.Interrupted("SIGTERM"), server="lxd") == "the call was stopped by SIGTERM"
