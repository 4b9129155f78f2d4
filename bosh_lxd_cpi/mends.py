"""Problem -> mend: one table for the hints in error messages and for bin/doctor.

`{client}` is `lxc` or `incus`; other placeholders are named by whoever asks.
"""
from __future__ import annotations

MENDS = {
    "unreachable": "Is the server running, and does it listen there? `{client} config set core.https_address :8443`;"
                   " check server.url and the firewall",
    "tls": "Is {url} really the server's HTTPS address, and no proxy in between?",
    "wrong_pin": "If the server's certificate was renewed, set server.tls_server_cert to the new one"
                 " (`{client} info` prints certificate_fingerprint)",
    "unverified": "Pin the server's own certificate with server.tls_server_cert (PEM, or the fingerprint that"
                  " `{client} info` prints), or give its authority with server.tls_ca_cert",
    "untrusted": "Add the client certificate on the server: `{client} config trust {add} bosh.crt`; also check that it"
                 " has not expired",
    "forbidden": "`{client} config trust list` shows the certificates: if ours is not there, `{client} config trust {add} bosh.crt`;"
                 " if it is restricted to other projects, correct server.project_name",
    "no_project": "Create it with `{client} project create {project}`, or set server.project_name",
    "no_pool": "`{client} storage list` shows the pools; set server.storage_pool_name or cloud_properties.storage_pool",
    "no_network": "`{client} network list` shows the networks; set server.network_name or the network's"
                  " cloud_properties.name",
    "no_profile": "`{client} profile list --project {project}` shows the profiles; set server.profile_name or"
                  " cloud_properties.profiles",
    "no_image": "Upload the stemcell again with `bosh upload-stemcell --fix`",
    "no_vms": "The server cannot run virtual machines: `{client} info` shows its drivers; it needs QEMU, KVM and"
              " vhost_vsock",
    "no_space": "Free or enlarge the storage pool: `{client} storage info {pool}`",
    "address_outside": "Use a subnet of the BOSH network that lies inside the bridge's: `{client} network show NAME`",
    "address_taken": "`{client} list --all-projects` shows who has it; is it left over from a VM that BOSH does not"
                     " know? bin/cleanup --list",
    "attached_grow": "Stop the VM or detach the disk first (`bosh stop --hard`), or let BOSH copy it",
    "attached_delete": "Detach it first; `{client} storage volume show {pool} {disk}` shows who uses it",
    "kept": "keep_failed_vms is set, so {vm} is still there, with its address: look at it with"
            " `{client} console --show-log {vm}`, then `{client} delete --force {vm}` and bin/cleanup",
    "no_bios": "The server has no BIOS firmware for virtual machines: install seabios there, or set"
               " server.instance_config for this stemcell line",
}


class _Names(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return name.upper()


def text(problem: str, **names: str) -> str:
    """The mend for a problem. What is not named stays a placeholder in capitals; without a `client` both are named."""
    client = names.setdefault("client", "lxc|incus")
    names.setdefault("add", "add-certificate" if client == "incus" else "add")
    return MENDS[problem].format_map(_Names(names))
