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
def test_old_stemcell_lines_use_bios(line, dialect):
    assert config(f"bosh-openstack-kvm-ubuntu-{line}-go_agent 1.5", dialect) == BIOS[dialect]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "stemcell", ["bosh-openstack-kvm-ubuntu-noble 1.5", "bosh-openstack-kvm-ubuntu-resolute 1.5", "mine", ""]
)
def test_other_stemcells_use_uefi_without_secure_boot(stemcell, dialect):
    assert config(stemcell, dialect) == UEFI[dialect]


def test_returns_a_new_dict():
    config()["security.csm"] = "changed"
    assert config() == BIOS["security.csm"]


def test_override_replaces_options_of_the_cpi():
    assert config(jammy={"limits.cpu.pin_strategy": "auto"}, default={"a": "b"}) == {"limits.cpu.pin_strategy": "auto"}


def test_default_override_applies_to_other_lines():
    assert config("noble", jammy={"a": "b"}, default={"c": "d"}) == {"c": "d"}
    assert config("noble", jammy={"a": "b"}) == UEFI["security.csm"]


def test_empty_override_sets_no_options():
    assert config(jammy={}) == {}


def test_longest_matching_override_applies():
    assert config(ubuntu={"a": "1"}, **{"ubuntu-jammy": {"a": "2"}, "jammy": {"a": "3"}}) == {"a": "2"}


def test_default_does_not_match_stemcell_name():
    assert config("my-default-jammy", default={"a": "1"}, jammy={"a": "2"}) == {"a": "2"}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "override, firmware_options",
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
def test_translates_override_to_dialect(override, firmware_options, dialect):
    options = config(dialect=dialect, default={**override, "other": "x"})
    assert options.pop("other") == "x"
    if dialect == "security.csm" and "security.csm" in override:
        assert options == override
    else:
        assert options == firmware_options[dialect]


def test_secure_boot_applies_without_csm():
    assert config(dialect="boot.mode", default={"security.secureboot": "true"}) == SECURE["boot.mode"]


def test_boot_mode_takes_precedence():
    both = {"boot.mode": "bios", "security.secureboot": "false"}
    assert config(dialect="boot.mode", default=both) == both


def test_does_not_change_overrides():
    override = {"security.csm": "true", "security.secureboot": "false"}
    config(dialect="boot.mode", default=override)
    assert override == {"security.csm": "true", "security.secureboot": "false"}
