"""What an operator can do about an error: one text per error code, for CPI error messages and for bin/doctor.

Text in backquotes can be used as it is. A command that starts with `{client}`, which is `lxc` or `incus`, runs on a
machine where that client reaches the server with full access. `section.name: value` is a property of the job. Where a
hint names several remedies, the first one always works. Only protocol/ and admin/ import this module.
"""

from __future__ import annotations

import re

from bosh_lxd_cpi.errors import CpiError, Interrupted

HINTS = {
    # connection
    "unreachable": "Check that the server runs and listens on this address (`{client} config set"
    " core.https_address=:8443`), then check server.url and the firewall",
    "tls": "Check that {url} is the server's HTTPS address and that no proxy is in between",
    "no_host": "Correct the host in server.url ({url}), or the DNS of this machine",
    "invalid_url": "Use a URL such as https://HOST:8443",
    "invalid_client_certificate": "Set server.tls_client_cert and server.tls_client_key to a certificate and its key,"
    " in PEM and without passphrase (file content or path)",
    "invalid_server_certificate": "Set server.tls_server_cert to the server's certificate in PEM (file content or path)"
    " or to its sha256 fingerprint",
    "invalid_ca_certificate": "Set server.tls_ca_cert to a certificate in PEM (file content or path)",
    "certificate_mismatch": "Set `server.tls_server_cert: {fingerprint}` if the server's certificate was renewed, but"
    " only if `{client} info` on the server prints the same certificate_fingerprint",
    "certificate_not_verified": "Pin the server's certificate with `server.tls_server_cert: {fingerprint}`, but only if"
    " `{client} info` on the server prints the same certificate_fingerprint; or set server.tls_ca_cert to the"
    " certificate of its CA",
    "certificate_not_checked": "Set `server.insecure_skip_verify: false` and `server.tls_server_cert: {fingerprint}`",
    "certificate_expired": "Create a new certificate, `openssl req -x509 -newkey ec -pkeyopt"
    " ec_paramgen_curve:secp384r1 -nodes -days 3650 -subj /CN=bosh -keyout bosh.key -out bosh.crt`, add it on the"
    " server, `{client} config trust {add} bosh.crt --name bosh-$(date +%F)`, and set"
    " `server.tls_client_cert: bosh.crt` and `server.tls_client_key: bosh.key` (file content or path)",
    "wrong_clock": "Correct the clock that is wrong: `timedatectl set-ntp true` on that machine",
    "certificate_not_trusted": "Add the client certificate (server.tls_client_cert) on the server: `{client} config"
    " trust {add} bosh.crt`, with --restricted --projects {project} for the least privilege; also check that the"
    " certificate has not expired",
    "certificate_restricted": 'Allow this project for the certificate: `{client} query -X PATCH -d \'{{"projects":'
    " {projects}}}' /1.0/certificates/{fingerprint}`; or correct server.project_name",
    "forbidden": "Look for the client certificate in `{client} config trust list`: if it is missing, run `{client}"
    " config trust {add} bosh.crt`; if it is restricted to other projects, correct server.project_name. For an identity"
    " (`lxc auth identity list`), run bin/doctor, which names the missing entitlements",
    "no_snapshots": "Replace the certificate by an identity: `lxc config trust remove FINGERPRINT`, then `util init_lxd"
    " --identity` (docs/how-to/authentication.md); or disable snapshots in the director. LXD 5.21.3 and later, and 6.2"
    " and later, allow a restricted certificate to create volume snapshots, but not to list or delete them; existing"
    " snapshots are deleted with their disks",
    "no_identity_group": "Give the identity a group: `lxc auth group create bosh`, `lxc auth group permission add bosh"
    " project {project} operator` and `lxc auth identity group add tls/{identity} bosh`",
    "missing_entitlement": "Add the entitlement to the group: `lxc auth group permission add {group} {permission}`",
    "hidden_settings": "Set `server.managed_network_assignment: static`, or use a certificate that may edit the"
    " network: on LXD 5.21 and 6 an identity, after `lxc auth group permission add GROUP network {network} can_edit"
    " project=default`; on Incus and LXD 5.0 an unrestricted certificate",
    "no_entitlement": "Allow the group of the identity to view the object, which LXD hides: `lxc auth group permission"
    " add GROUP project {project} operator`; for networks of the project default, also run `lxc auth group permission"
    " add GROUP project default can_view` and `lxc auth group permission add GROUP project default can_view_networks`",
    "hidden": "Check it where `{client}` has full access: `{client} {command}`",
    "no_date": "Compare the clocks of both machines: `date --utc`",
    # server and cluster
    "wrong_type": "Set `server.type: {server}`",
    "too_old": "Upgrade the server to LXD 5.0, Incus 6.0 or later",
    "no_vms": "Look at the drivers that `{client} info` shows: the server needs QEMU, /dev/kvm (with nested"
    " virtualization enabled if the server is a VM itself) and vhost_vsock (`modprobe vhost_vsock`) for virtual"
    " machines, and a restart afterwards",
    "no_bios": "Install seabios on the server, which has no BIOS firmware for virtual machines, or set"
    " server.instance_config for this stemcell line",
    "member_offline": "Look for the reason with `{client} cluster list`; until the member is back, set server.target to"
    " another member; if it never returns, make sure that its machine is off, then `{client} cluster remove --force"
    " {member}` removes it with its VMs and disks; see docs/how-to/clusters.md",
    "no_quorum": "Start the other database members, because more than half of them have to run, or recover the cluster"
    " as docs/how-to/clusters.md shows; on a single server, check the load of its disk",
    "small_cluster": "Add members: `{client} cluster add NAME` prints a token for each; a cluster of three survives the"
    " loss of one",
    "image_sync": "Run `systemctl reload snap.lxd.daemon` on the member that joined after the project was created: LXD"
    " 6.6 to 6.9 accepts images there only after a restart of the daemon; VMs continue to run",
    "few_database_members": "Start the members with the role database that are offline, or remove one that never"
    " returns with `{client} cluster remove --force MEMBER`: `{client} cluster list` shows them",
    "several_versions": "Update all members to one version: until then, the servers can refuse requests",
    "no_target": "Correct server.target or cloud_properties.target: `{client} cluster list` shows the members",
    "no_cluster_group": "Correct server.target or cloud_properties.target: `{client} cluster group list` shows the"
    " groups",
    "different_targets": "Correct cloud_properties.target of the VM, its AZ or the network: `{client} cluster list`"
    " shows the members",
    "no_member": "Look for members that are offline or evacuated in `{client} cluster list`; `{client} cluster show"
    " MEMBER` shows the groups of a member, and scheduler.instance, which must be all, or group for a target @GROUP",
    "member_evacuated": "End the evacuation with `{client} cluster restore MEMBER`; until then, set server.target or"
    " cloud_properties.target to another member",
    "too_many_cpus": "Reduce cpu or instance_type in the cloud_properties of the vm_type or the AZ: the VM has more"
    " CPUs than the server, which `{client} info --resources` shows",
    "see_server_log": "Look at `{client} info --show-log NAME --project {project}` for a VM, or at the server's log;"
    " see docs/how-to/troubleshoot.md",
    # project and profile
    "no_project": "Create the project with `{client} project create {project}`, or set server.project_name; if an"
    " identity of LXD may not view the project, `bin/doctor` names the missing permission",
    "shared_with_default": "Run `{client} project set {project} {key}=true` while the project is still empty",
    "project_setting": "Run `{client} project set {project} {key}={value}`",
    "project_limit": "Run `{client} project unset {project} {key}`, or set a higher limit",
    "network_not_allowed": "Allow the network in restricted.networks.access and restricted.devices.nic, which"
    " `{client} project show {project}` shows, or correct server.network_name or the network's cloud_properties.name",
    "target_not_allowed": "Allow the group in restricted.cluster.groups, which `{client} project show {project}`"
    " shows, or correct server.target or cloud_properties.target",
    "device_not_allowed": "Allow the device in restricted.devices, which `{client} project show {project}` shows, or"
    " remove it from cloud_properties.devices",
    "create_profile": "Create the profile with `{client} profile create {profile} --project {project}`, or set"
    " server.profile_name",
    "no_profile": "Set server.profile_name or cloud_properties.profiles: `{client} profile list --project {project}`"
    " shows the profiles",
    "profile_device": "Run `{client} profile device remove {profile} {device} --project {project}`, or mask the device"
    " with cloud_properties.devices: `{device}: {{type: none}}`",
    "profile_option": "Run `{client} profile unset {profile} {key} --project {project}`",
    "two_root_disks": "Remove the device with the path / from cloud_properties.devices, or the second one from the"
    " profile: `{client} profile show {profile} --project {project}`",
    "stateful_vm": "Run `{client} profile unset {profile} migration.stateful --project {project}`, or set"
    ' cloud_properties.config: `migration.stateful: "false"`',
    # storage
    "no_pool": "Set server.storage_pool_name or cloud_properties.storage_pool: `{client} storage list` shows the pools",
    "create_pool": "Create the pool with `{client} storage create {pool} {driver}`, or set server.storage_pool_name to"
    " one of: {pools}",
    "pool_pending": "Create it on each member that lacks it, `{client} storage create {pool} {driver} --target"
    " {member}`, then on the cluster, `{client} storage create {pool} {driver}`",
    "pool_unavailable": "Look at `{client} storage show {pool}` and at the server's log for the reason; the server"
    " tries again every minute",
    "no_root_volume": "Run `{sql} global \"DELETE FROM instances WHERE name='{vm}'\"` on the server to remove the"
    " record of this instance: the server was killed while it created or deleted it, and lost its root volume; files"
    " can remain in the pool",
    "slow_pool": "Create a pool with copy-on-write, `{client} storage create {pool}-{driver} {driver}`, and set"
    " `server.storage_pool_name: {pool}-{driver}`",
    "small_root_disks": "Run `{client} storage unset {pool} volume.size`, or set cloud_properties.root_disk everywhere",
    "grow_pool": "Run `{client} storage set {pool} size={size}` if the server's disk has enough space",
    "larger_pool": "Create a larger pool, `{client} storage create {pool}-large {driver} size={size}`, and set"
    " `server.storage_pool_name: {pool}-large`; or free space with `bosh clean-up --all`",
    "no_space": "Free space in the storage pool, or enlarge it: `{client} storage info {pool}`",
    "no_image_space": "Free space on the server's disk, or store images in a volume of a pool: `{client} config set"
    " storage.images_volume=POOL/VOLUME`",
    "predeploy": "Set `server.predeploy_stemcell: true`",
    # network
    "no_network": "Set server.network_name or the network's cloud_properties.name: `{client} network list` shows the"
    " networks",
    "no_network_name": "Set server.network_name or the network's cloud_properties.name",
    "create_network": "Create the network with `{client} network create {network} dns.mode=none`, or set"
    " server.network_name to one of: {networks}",
    "no_default_network": "Set server.network_name to one of: {networks}; or set cloud_properties.name of every BOSH"
    " network",
    "network_broken": "Look at `{client} network info {network}` and at the server's log for the reason",
    "unmanaged_network": "Compare it on the server: `ip address show {network}`",
    "dns_mode": "Run `{client} network set {network} dns.mode=none`, unless every VM has one BOSH network on it",
    "dhcp_ranges": "Run `{client} network set {network} ipv4.dhcp.ranges={range}`, and add the range to `reserved` in"
    " the cloud-config; or use a range of your own that BOSH does not use",
    "no_dhcp": "Run `{client} network set {network} ipv4.dhcp=true`, or set `server.managed_network_assignment:"
    " static`",
    "no_subnet": "Set an address, `{client} network set {network} ipv4.address={address}`, unless another router is the"
    " gateway of this network",
    "other_subnet": "Use internal_cidr {subnet} and internal_gw {gateway}, or change the bridge: `{client} network set"
    " {network} ipv4.address={address}`",
    "other_gateway": "Use internal_gw {gateway}",
    "other_address": "Use another internal_ip, for instance {free}",
    "address_outside": "Use a subnet of the BOSH network that lies inside the bridge's subnet: `{client} network show"
    " NAME`",
    "address_of_bridge": "Remove the address from the static and dynamic addresses of the subnet and add it to"
    " `reserved`: the bridge itself has it, as the gateway, which `{client} network show NAME` shows",
    "address_taken": "Look for the instance with this address in `{client} list --all-projects`. If a failed"
    " deployment left it behind, bin/cleanup --list shows it",
    "interrupted_elsewhere": "Wait until the creation of {vm} has ended. If it was interrupted on another machine,"
    " `bin/cleanup --min-age 0` removes the VM",
    "network_type": "Use manual or dynamic",
    "dns_name_taken": "Run `{client} network set {network} dns.mode=none`, so that the server does not give every NIC"
    " the DNS name of its VM; or use one NIC for both BOSH networks, with nic_group",
    "no_filter_address": "Use a manual network, remove the filter, or use a managed bridge with DHCP: `{client} network"
    " show {network}`",
    "no_vip": "Use a manual network, or `{client} network forward` on the server's network",
    "no_acl": "Correct security_groups in the network's cloud_properties: `{client} network acl list` shows the"
    " network ACLs",
    "no_acl_support": "Remove security_groups from the network's cloud_properties, or filter the whole bridge with"
    " `{client} network set NETWORK security.acls=ACL`: LXD supports network ACLs for single VMs only on OVN networks",
    # instances and disks
    "unknown_option": "Remove {key} from {setting}, or upgrade the server, which does not know this option: LXD 6.7 and"
    " later know boot.mode; LXD 5.15 to 6.6 and Incus know security.csm; in server.instance_config, the CPI translates"
    " one into the other",
    "unknown_device_option": "Remove {key} of {device} from cloud_properties.devices or from the network's"
    " cloud_properties, or upgrade the server, which does not know this option",
    "unknown_volume_option": "Remove {key} from config in the disk's cloud_properties, or use a pool with a driver that"
    " knows this option",
    "protected": "Run `{client} config set {vm} security.protection.delete=false --project {project}` (on LXD 5.0 only"
    " after `{client} stop --force {vm} --project {project}`), and remove the option from the profile if it is set"
    " there",
    "vm_kept": "Look at {vm}, which still exists because of keep_failed_vms, with `{client} console --show-log {vm}"
    " --project {project}`; to free its address, run `{client} delete --force {vm} --project {project}` and"
    " bin/cleanup",
    "incomplete": "Run bin/cleanup later; if that fails, the server's administrator has to remove the files of this"
    " name from the storage pool and the server's directory, then run bin/cleanup again",
    "attached_elsewhere": "Detach the disk from that VM first",
    "attached_grow": "Stop the VM or detach the disk first (`bosh stop --hard`), or let BOSH copy the disk",
    "attached_delete": "Detach the disk first; `{client} storage volume show {pool} {disk} --project {project}` shows"
    " the instances that use it",
    "several_disks": "Find out which copy is current with `{client} storage volume list {pool} --project {project}`,"
    " and delete the other: `{client} storage volume delete {pool} {disk} --project {project} --target MEMBER`",
    # stemcells
    "no_image": "Upload the stemcell again with `bosh upload-stemcell --fix`",
    "no_light_image": "Import the image into project {project}, or correct image_alias or image_fingerprint",
    "container_image": "Import the image again with a disk image (rootfs.img, qcow2)",
    "not_qcow2": "Upload an openstack-qcow2 stemcell; a raw stemcell needs disk_format: raw",
    "large_stemcell": "Set disk in the cloud_properties of the stemcell (stemcell.MF) to the size of its disk in MiB",
    "sparse_stemcell": "Create the stemcell's image again, without tar's option --sparse (-S)",
    "damaged_stemcell": "Download the stemcell again; its image has to be a gzipped tar with one file root.img",
    # properties
    "owned_option": "Use instance_type, cpu, ram or tags instead",
    "owned_device": "Use another device name",
    "instance_type": "Use a size such as c2-m4: number of CPUs and GiB of memory",
    "invalid_configuration": "Run bin/doctor, which lists every property with what it must be",
    "no_configuration": "Start bin/cpi with --config FILE",
    "bad_property": "Correct the property in {file}; docs/reference/job-properties.md describes each property",
    "cpi_config_variable": "Replace the variables of the cpi-config: `bosh interpolate {file} --vars-file VARS`",
    "unknown_property": "Correct the name in {file}, or remove the property",
    "usage": "Run the program with --help",
    # locks
    "no_lock_directory": "Set throttle_config.path to a directory that belongs to the user who runs the CPI; for"
    " several users, to one of root that their group can write to",
    "remote_lock_directory": "Set throttle_config.path to a directory on a local disk",
    "hidden_lock_directory": "Unset throttle_config.path, or add {path} to director.cpi_additional_volumes, writable",
    "throttled": "Raise throttle_config.limit or throttle_config.wait; bin/doctor --locks shows the current holders",
    # cleanup
    "leftovers": "Run `bin/cleanup --dry-run`, which shows what it would remove, and `bin/cleanup`",
    "leftovers_of_others": "Run `bin/cleanup --director all --dry-run`, which shows the unused resources of all"
    " directors, and without --dry-run removes them; a director that still runs removes its own",
    "leftovers_of_smoke_test": "Run bin/cleanup --director {director} --min-age 0",
    "orphans": "Run `bin/cleanup --list`, which shows the disks; `bosh clean-up --all` or `bin/cleanup --delete-disk"
    " CID` removes them",
    "no_such_disk": "Run bin/cleanup --list, which shows the persistent disks",
    "disk_on_several_members": "Run any CPI call that changes the disk, such as bosh attach-disk: it resolves the"
    " interrupted migration",
    "several_directors": "Name one with --director, or use --director all; the property director_uuid sets it"
    " permanently",
    "resource_of_other_director": "Run the command with --director {director} to delete it",
    "no_such_stemcell": "Run bin/cleanup --list, which shows the stemcells",
    "stemcell_in_use": "Recreate these VMs with a newer stemcell first; bin/cleanup --list shows them",
    "newest_stemcell": "Run `bosh delete-stemcell`; if `bosh stemcells` does not show the stemcell, run `bosh"
    " upload-stemcell --fix` with this name and version first",
    "fix_failures_first": "Fix the failed checks first",
}

CLIENTS = {
    "lxd": {"client": "lxc", "add": "add", "sql": "lxd sql"},
    "incus": {"client": "incus", "add": "add-certificate", "sql": "incus admin sql"},
}
"""The command-line client of each kind of server, and its subcommands that have different names."""


class _Placeholders(dict[str, str]):
    """Leaves a placeholder that has no value as a word in capitals."""

    def __missing__(self, name: str) -> str:
        return name.upper()


def text(code: str, **fields: str) -> str:
    """Return the hint for a code, with `fields` in its placeholders.

    A placeholder without a field becomes a word in capitals. The field `server` is `lxd` or `incus` and selects the
    client; without it the hint shows each command for both clients.
    """
    template = HINTS[code]
    client = CLIENTS.get(fields.get("server", ""))
    if client is None:
        template = re.sub(r"`\{(client|sql)\}[^`]*`", _for_both_clients, template)
        client = CLIENTS["lxd"]
    return template.format_map(_Placeholders({**client, **fields}))


def _for_both_clients(command: re.Match[str]) -> str:
    commands = []
    for client in CLIENTS.values():
        text = command[0]
        for name, value in client.items():
            text = text.replace(f"{{{name}}}", value)
        commands.append(text)
    return " or ".join(commands)


def render(error: CpiError, **defaults: str) -> str:
    """Return the hint for an error, empty if it has none. `defaults` are fields that the error itself does not have."""
    return text(error.code, **{**defaults, **error.fields}) if error.code else ""


def message(error: CpiError | Interrupted, **defaults: str) -> str:
    """Return the brief of an error followed by its hint."""
    if isinstance(error, Interrupted):
        return str(error)
    hint = render(error, **defaults)
    return f"{error.brief.rstrip('.')}. {hint}" if hint else error.brief
