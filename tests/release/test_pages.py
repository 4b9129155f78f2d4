"""The commands of the pages run on real servers, page by page. `bosh` and `git` are stubs.

A command runs, or NOT_RUN has the reason why it does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.host import machine, server
from tests.release import bosh_ops, bosh_release, page_runner
from tests.release.page_runner import Machine
from tests.release.test_manifests import BOSH_YML, with_cpi

pytestmark = pytest.mark.skipif(machine.unsupported_reason() is not None, reason=str(machine.unsupported_reason()))

DEPLOY = "docs/how-to/deploy.md"
DIRECTORIES = {
    DEPLOY: ".",
    "docs/how-to/troubleshoot.md": "lab",
    "docs/how-to/operate.md": "lab",
    "docs/how-to/back-up.md": "lab",
    "docs/how-to/upgrade.md": "lab",
    "docs/how-to/clusters.md": "lab",
    "docs/how-to/genesis.md": "lab",
    "docs/how-to/home-lab.md": "lab",
    "docs/how-to/air-gapped.md": ".",
    "docs/how-to/capture.md": "lab",
    "docs/how-to/timeline.md": "lab",
    "docs/how-to/move-from-go-cpi.md": ".",
    "docs/how-to/remove.md": "lab",
    "docs/how-to/set-up-lxd.md": "lab",
    "docs/how-to/set-up-incus.md": "lab",
    "docs/how-to/authentication.md": "lab",
    "README.md": "bosh-lxd-cpi",
}
"""The pages with commands, in the order in which they run, and the directory where a reader is."""

MACHINE, DISK, OTHER_MACHINE = "it changes the machine itself", "it needs a disk", "it needs another machine"
DIRECTOR, OTHER_TEST = "it needs a director or a download", "another test runs it"
NOT_RUN = {
    r"(sudo )?(snap|apt|usermod|iptables|ufw) ": MACHINE,
    r"sgdisk |lsblk |mkfs|zpool |mkdir -p /srv|echo .UUID": DISK,
    r"(lxc|incus) storage create default (zfs|btrfs) source": DISK,
    r"scp |ssh |incus remote ": OTHER_MACHINE,
    r"(lxc|lxd|incus) (cluster |.* --target )": "it needs a cluster",
    r"genesis |safe ": "it needs Genesis",
    r"lxc auth |util generate_certs && util init_lxd --identity": "it needs LXD 5.21.3, 6.2 or later",
    r"address=": "a line of the configuration of dnsmasq",
    r"util (upload_stemcells|deploy_cf|deploy_concourse)|source .*/cf-env.sh": DIRECTOR,
    r"bin/(demo|record)|.*replay --stemcell|.*/vendor .*--python": OTHER_TEST,
}
"""The beginnings of commands that cannot run here, as regular expressions, with the reason."""

SETTINGS = {
    "URL-OF-THIS-REPOSITORY": "cpi.git",
    "HOST": "10.245.0.1",
    "DEPLOYMENT": "web",
    "GROUP": "db",
    "MANIFEST": "web.yml",
    "COMMIT": "HEAD",
    "ID": "7",
    "MEMBER": "node1",
    "FILE": "../bosh-lxd-cpi/tests/fixtures/incus/vm.json",
    "FOLDER": "bosh-lxd-cpi/blobs/vendor",
    "VM": "vm-01ae91cd-0385-4f72-a58a-b9496717212b",
    "DISK": "vol-p-01ae91cd-0385-4f72-a58a-b9496717212b",
    "FINGERPRINT": "$(openssl x509 -in bosh-client.crt -noout -fingerprint -sha256 | sed 's/.*=//; s/://g')",
    r"cat \$CPI_CONFIG_DIR": r"sed -i s/c4-m8/c2-m8/ config/cloud-config.yml\n\g<0>",  # CI has two CPUs
    "(zfs|btrfs) source=/dev/sdb1": "dir",
    "util destroy": "echo yes | util destroy",
    "mkdir ../lab &&": "",
    "lxc --project boshdev stop": "lxc --project boshdev stop --force",  # no system runs in the VM
    "lxc --project boshdev storage volume import": "lxc --project boshdev storage volume delete default DISK\n\\g<0>",
}
"""What a reader replaces on a page, as regular expressions, and what differs on a test host."""

VARIABLES = [
    {"name": "admin_password", "type": "password"},
    {"name": "mbus_bootstrap_password", "type": "password"},
    {"name": "mbus_bootstrap_ssl", "type": "certificate", "options": {"common_name": "mbus"}},
    {"name": "director_ssl", "type": "certificate", "options": {"common_name": "director"}},
]
"""Variables of bosh.yml whose values the pages use."""

RESET = ("lxc project delete boshdev", "lxc network delete boshdevbr0 || true", "lxc config trust remove FINGERPRINT")
MANUAL_STEPS = re.compile("(lxc|incus) (config set core|project create)")
"""The first of the steps that a page has as an alternative to `util init_lxd`."""


def runnable(page: str) -> list[str]:
    """Return the commands of a page that can run here. What `util init_lxd` made is deleted before the manual steps."""
    lines: list[str] = []
    for line in page_runner.commands(page):
        if MANUAL_STEPS.match(line) and not set(RESET) & set(lines):
            lines += RESET
        if not any(re.match(pattern, line) for pattern in NOT_RUN):
            lines.append(line)
    return lines


@pytest.fixture(params=["incus", "lxd"])
def lab(request: pytest.FixtureRequest, blobs: None, public_path: Path) -> Iterator[Machine]:
    """A machine, and a server without any configuration."""
    name = f"pages-{request.param}"
    server.down(name, wipe=True)
    try:
        facts = server.up(request.param, name=name, configure=lambda *_: None)
        (public_path / "bosh.yml").write_text(yaml.safe_dump({**BOSH_YML, "variables": VARIABLES}))
        yield Machine(public_path, facts, SETTINGS)
    finally:
        server.down(name, wipe=True)


def create_director(lab: Machine) -> None:
    """Create a VM and a disk in place of those that the stub of bosh does not create."""
    for arguments in (
        f"init {SETTINGS['VM']} --empty --vm --storage=default -c limits.memory=128MiB",
        f"storage volume create default {SETTINGS['DISK']} --type=block size=16MiB",
        f"start {SETTINGS['VM']}",
    ):
        server.client(lab.host.name, "--project", "boshdev", *arguments.split())


def test_commands_of_the_pages_work(lab: Machine) -> None:
    shell = [line for line in runnable(DEPLOY) if line.startswith(("source ", "export "))]
    for page, directory in DIRECTORIES.items():
        if page == f"docs/how-to/set-up-{'lxd' if lab.host.type == 'incus' else 'incus'}.md":
            continue
        if page == DEPLOY:
            lab.run(runnable(page))
            create_director(lab)
            operations = page_runner.documents("docs/how-to/air-gapped.md")[0]
            (lab.folder / "lab/local.yml").write_text(yaml.safe_dump(operations))
        else:
            output = lab.run(["cd lab", *shell, f"cd $HOME/{directory}", *runnable(page)])
            assert all(session in output for session in page_runner.sessions(page)), page


def test_every_page_with_commands_runs() -> None:
    root = bosh_release.ROOT
    pages = [root / "README.md", *root.glob("docs/how-to/*.md"), *root.glob("docs/explanation/*.md")]
    names = {str(page.relative_to(root)) for page in pages}
    assert {name for name in names if page_runner.commands(name)} == set(DIRECTORIES)


def test_commands_that_do_not_run_are_on_a_page() -> None:
    lines = [line for page in DIRECTORIES for line in page_runner.commands(page)]
    for pattern in NOT_RUN:
        assert any(re.match(pattern, line) for line in lines), pattern


@pytest.mark.parametrize("name", ["air-gapped", "operate", "upgrade"])
def test_operations_on_the_pages_apply_to_the_manifest(name: str) -> None:
    documents = page_runner.documents(f"docs/how-to/{name}.md")
    operations = [document for document in documents if isinstance(document, list)]
    assert operations
    for document in operations:
        bosh_ops.apply(with_cpi(), document)
