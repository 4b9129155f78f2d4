from __future__ import annotations

import pytest

from bosh_lxd_cpi.guest import firmware

DIALECTS = ("boot.mode", "security.csm", "raw.qemu")
BIOS = {
    "boot.mode": {"boot.mode": "bios"},
    "security.csm": {"security.csm": "true", "security.secureboot": "false"},
    "raw.qemu": {"raw.qemu": "-bios bios-256k.bin", "security.secureboot": "false"},
}
UEFI = {
    "boot.mode": {"boot.mode": "uefi-nosecureboot"},
    "security.csm": {"security.secureboot": "false"},
    "raw.qemu": {"security.secureboot": "false"},
}
SECURE = {"boot.mode": {"boot.mode": "uefi-secureboot"}, "security.csm": {}, "raw.qemu": {}}


def config(stemcell: str = "bosh-openstack-kvm-ubuntu-jammy 1.5", dialect: str = "security.csm", **overrides):
    return firmware.config(stemcell, dialect=dialect, overrides=overrides)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("line", ["jammy", "bionic", "xenial", "trusty"])
def test_old_stemcells_boot_by_bios(line, dialect):
    assert config(f"bosh-openstack-kvm-ubuntu-{line}-go_agent 1.5", dialect) == BIOS[dialect]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "stemcell", ["bosh-openstack-kvm-ubuntu-noble 1.5", "bosh-openstack-kvm-ubuntu-resolute 1.5", "mine", ""]
)
def test_all_others_boot_by_uefi_and_are_not_signed(stemcell, dialect):
    assert config(stemcell, dialect) == UEFI[dialect]


def test_a_fresh_answer_is_given_every_time():
    config()["security.csm"] = "changed"
    assert config() == BIOS["security.csm"]


def test_the_operators_options_for_a_line_replace_ours():
    assert config(jammy={"limits.cpu.pin_strategy": "auto"}, default={"a": "b"}) == {"limits.cpu.pin_strategy": "auto"}


def test_default_stands_for_all_other_lines():
    assert config("noble", jammy={"a": "b"}, default={"c": "d"}) == {"c": "d"}
    assert config("noble", jammy={"a": "b"}) == UEFI["security.csm"]


def test_an_empty_override_means_no_options_at_all():
    assert config(jammy={}) == {}


def test_the_longest_word_that_fits_wins():
    assert config(ubuntu={"a": "1"}, **{"ubuntu-jammy": {"a": "2"}, "jammy": {"a": "3"}}) == {"a": "2"}


def test_the_word_default_in_a_stemcells_name_means_nothing():
    assert config("my-default-jammy", default={"a": "1"}, jammy={"a": "2"}) == {"a": "2"}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "written, meant",
    [
        ({"security.csm": "true", "security.secureboot": "false"}, BIOS),
        ({"security.csm": "true"}, BIOS),
        ({"boot.mode": "bios"}, BIOS),
        ({"security.secureboot": "false"}, UEFI),
        ({"boot.mode": "uefi-nosecureboot"}, UEFI),
        ({"boot.mode": "uefi-secureboot"}, SECURE),
        ({"security.csm": "false", "security.secureboot": "false"}, UEFI),
    ],
)
def test_options_written_for_another_server_are_translated(written, meant, dialect):
    found = config(dialect=dialect, default={**written, "other": "kept"})
    assert found.pop("other") == "kept"
    if dialect == "security.csm" and "security.csm" in written:
        assert found == written  # its own words stay as they are
    else:
        assert found == meant[dialect]


def test_secure_boot_is_what_remains_when_nothing_else_is_said():
    assert config(dialect="boot.mode", default={"security.secureboot": "true"}) == SECURE["boot.mode"]


def test_of_both_ways_to_say_it_boot_mode_wins_where_it_is_known():
    both = {"boot.mode": "bios", "security.secureboot": "false"}
    assert config(dialect="boot.mode", default=both) == both


def test_what_the_operator_gave_is_left_as_it_was():
    given = {"security.csm": "true", "security.secureboot": "false"}
    config(dialect="boot.mode", default=given)
    assert given == {"security.csm": "true", "security.secureboot": "false"}
