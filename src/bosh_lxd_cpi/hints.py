"""Problem -> hint: one table for the hints in error messages and for bin/doctor.

What stands in backquotes can be used as it is: a command that starts with `{client}`, which is `lxc` or `incus`, is run
where that client reaches the server as its administrator; `section.name: value` is set in the job's properties. Of
several, the first one hints it. Placeholders are named by whoever asks; doctor knows more of them than a failing call.
"""

from __future__ import annotations

HINTS = {
    "unreachable": "Is the server running, and does it listen there? `{client} config set core.https_address :8443`;"
    " check server.url and the firewall",
    "tls": "Is {url} really the server's HTTPS address, and no proxy in between?",
    "no_host": "Correct the host in server.url ({url}), or this machine's DNS",
    "wrong_pin": "If the server's certificate was renewed, set `server.tls_server_cert: {fingerprint}`, provided that"
    " `{client} info` on the server prints the same as certificate_fingerprint",
    "unverified": "Pin the server's own certificate with `server.tls_server_cert: {fingerprint}`, provided that"
    " `{client} info` on the server prints the same as certificate_fingerprint; or give its authority"
    " with server.tls_ca_cert",
    "unprotected": "Set `server.insecure_skip_verify: false` and `server.tls_server_cert: {fingerprint}`",
    "expired": "Make a new one, `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -nodes -days 3650"
    " -subj /CN=bosh -keyout bosh.key -out bosh.crt`, add it on the server,"
    " `{client} config trust {add} bosh.crt`, and set"
    " `server.tls_client_cert: bosh.crt` and `server.tls_client_key: bosh.key` (their text, or their paths)",
    "clock": "Set the clock that is wrong: `timedatectl set-ntp true` on that machine",
    "untrusted": "Add the client certificate, the text in server.tls_client_cert, on the server:"
    " `{client} config trust {add} bosh.crt`, which with --restricted --projects {project} gives no more"
    " than it needs; also check that it has not expired",
    "restricted": "Allow it this project too: `{client} query -X PATCH -d '{{\"projects\": {projects}}}'"
    " /1.0/certificates/{fingerprint}`; or correct server.project_name",
    "forbidden": "`{client} config trust list` shows the certificates: if ours is not there,"
    " `{client} config trust {add} bosh.crt`; if it is restricted to other projects, correct"
    " server.project_name",
    "no_snapshots": "LXD from 5.21.3 and 6.2 on lets restricted certificates make snapshots of volumes, but neither see"
    " nor delete them: trust ours without --restricted, or switch the director's snapshots off; those"
    " that are there go with their disks",
    "wrong_type": "Set `server.type: {kind}`",
    "too_old": "Upgrade the server to LXD 5.0, Incus 6.0 or later",
    "member_offline": "`{client} cluster list` shows why; until it is back, set server.target to another member",
    "no_project": "Create it with `{client} project create {project}`, or set server.project_name",
    "shared_with_default": "`{client} project set {project} {key}=true`, while the project is still empty",
    "project_setting": "`{client} project set {project} {key}={value}`",
    "project_limit": "`{client} project unset {project} {key}`, or set it higher",
    "no_pool": "`{client} storage list` shows the pools; set server.storage_pool_name or cloud_properties.storage_pool",
    "create_pool": "Create it with `{client} storage create {pool} {driver}`, or set server.storage_pool_name to one"
    " of: {pools}",
    "pool_pending": "`{client} storage show {pool}` says which cluster member it is missing on",
    "slow_pool": "Make one that copies on write, `{client} storage create {pool}-{driver} {driver}`, and set"
    " `server.storage_pool_name: {pool}-{driver}`",
    "small_root_disks": "`{client} storage unset {pool} volume.size`, or set cloud_properties.root_disk everywhere",
    "grow_pool": "`{client} storage set {pool} size={size}`, if the server's disk has the room",
    "larger_pool": "Make a larger one, `{client} storage create {pool}-large {driver} size={size}`, and set"
    " `server.storage_pool_name: {pool}-large`; or free some of it with `bosh clean-up --all`",
    "predeploy": "Set `server.predeploy_stemcell: true`",
    "create_network": "Create it with `{client} network create {network}`, or set server.network_name to one of:"
    " {networks}",
    "no_default_network": "Set server.network_name to one of: {networks}; or give every BOSH network"
    " cloud_properties.name",
    "network_broken": "`{client} network info {network}` and the server's log say why",
    "no_dhcp": "`{client} network set {network} ipv4.dhcp=true`, or set `server.managed_network_assignment: static`",
    "no_subnet": "Give it one, `{client} network set {network} ipv4.address={address}`, unless somebody else is the"
    " gateway there",
    "other_subnet": "Use internal_cidr {subnet} and internal_gw {gateway}, or move the bridge:"
    " `{client} network set {network} ipv4.address={address}`",
    "other_gateway": "Use internal_gw {gateway}",
    "other_address": "Use another internal_ip, for instance {free}",
    "no_target": "`{client} cluster list` shows the members; correct server.target or cloud_properties.target",
    "no_network": "`{client} network list` shows the networks; set server.network_name or the network's"
    " cloud_properties.name",
    "create_profile": "Create it with `{client} profile create {profile} --project {project}`, or set"
    " server.profile_name",
    "no_profile": "`{client} profile list --project {project}` shows the profiles; set server.profile_name or"
    " cloud_properties.profiles",
    "no_image": "Upload the stemcell again with `bosh upload-stemcell --fix`",
    "no_vms": "The server cannot run virtual machines: `{client} info` shows its drivers; it needs QEMU, /dev/kvm"
    " (virtualization switched on, if nested by its own host) and vhost_vsock (`modprobe vhost_vsock`), and"
    " then a restart",
    "no_space": "Free or enlarge the storage pool: `{client} storage info {pool}`",
    "address_outside": "Use a subnet of the BOSH network that lies inside the bridge's: `{client} network show NAME`",
    "address_of_bridge": "It is the bridge's own, as the gateway: `{client} network show NAME`. Leave it out of the subnet's"
    " static and dynamic addresses: it belongs to `reserved`",
    "protected": "`{client} config set {vm} security.protection.delete=false --project {project}`, and take the option out of"
    " the profile if it is there",
    "address_taken": "`{client} list --all-projects` shows who has it; is it left over from a VM that BOSH does not"
    " know? bin/cleanup --list",
    "attached_grow": "Stop the VM or detach the disk first (`bosh stop --hard`), or let BOSH copy it",
    "several_disks": "`{client} storage volume list {pool} --project {project}` shows them; find out which one is right, and"
    " delete the other: `{client} storage volume delete {pool} {disk} --project {project} --target MEMBER`",
    "attached_delete": "Detach it first; `{client} storage volume show {pool} {disk} --project {project}` shows who uses it",
    "kept": "keep_failed_vms is set, so {vm} is still there, with its address: look at it with"
    " `{client} console --show-log {vm} --project {project}`, then"
    " `{client} delete --force {vm} --project {project}` and bin/cleanup",
    "no_lock_directory": "Let everybody who runs the CPI write there, or set throttle_config.path to a directory where"
    " they can",
    "remote_lock_directory": "Set throttle_config.path to a directory on a local disk",
    "hidden_lock_directory": "Unset throttle_config.path, or list {path} under director.cpi_additional_volumes,"
    " writable",
    "bad_property": "Correct it in {file}; docs/configure.md says what each property must be",
    "unknown_property": "Rename it in {file}, or take it out",
    "leftovers": "`bin/cleanup --dry-run` shows what can go, `bin/cleanup` removes it",
    "others_leftovers": "`bin/cleanup --director all --dry-run` shows what can go of all directors, and without --dry-run"
    " removes it; if its own director still runs, it does so itself",
    "orphans": "`bin/cleanup --list` shows them; `bosh clean-up --all` or `bin/cleanup --delete-disk CID` removes them",
    "ask_the_server": "`{client} info --show-log NAME --project {project}` for a VM, else the server's log, says more; see"
    " docs/troubleshoot.md",
    "mend_first": "Mend the above first",
    "no_bios": "The server has no BIOS firmware for virtual machines: install seabios there, or set"
    " server.instance_config for this stemcell line",
}


CLIENTS = {"lxc": "add", "incus": "add-certificate"}
"""And what each calls trusting a certificate."""


class _Names(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return name.upper()


def text(problem: str, **names: str) -> str:
    """The hint for a problem. What is not named stays a placeholder in capitals; without a `client` both have a command."""
    template = HINTS[problem]
    if "client" not in names:
        import re

        def of_both(command: re.Match[str]) -> str:
            return " or ".join(
                command[0].replace("{client}", client).replace("{add}", add) for client, add in CLIENTS.items()
            )

        template = re.sub(r"`\{client\}[^`]*`", of_both, template)
    names.setdefault("add", CLIENTS.get(names.get("client", ""), "add"))
    return template.format_map(_Names(names))
