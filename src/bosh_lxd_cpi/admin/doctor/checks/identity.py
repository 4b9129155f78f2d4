"""Checks a fine-grained TLS identity of LXD: the entitlements that its groups have to give it.

LXD 5.21.3 and later, and 6.2 and later, have them (docs/development/lxd-api.md §8). The source of the rules is
lxd/auth/drivers/openfga_model.openfga.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult

EXTENSION = "access_management_tls"
FINE_GRAINED = "Client certificate"
"""The type of such an identity. Certificates of the trust store have `(restricted)` or `(unrestricted)` after it."""

SERVER = "/1.0"
EDIT_ALL, VIEW_ALL = {"admin", "project_manager"}, {"admin", "project_manager", "viewer", "can_view_projects"}
"""Entitlements on the server that include the operator of a project, and those that include its viewer."""
OPERATOR_PARTS = (
    "can_view",
    "instance_manager",
    "storage_volume_manager",
    "image_manager",
    "image_alias_manager",
    "can_view_profiles",
    "can_view_operations",
)
"""What the CPI needs of the entitlement `operator` of its project."""
VIEW_PROJECT = {"can_view", "viewer", "operator"}
VIEW_NETWORKS = {"can_view_networks", "network_manager", "viewer", "operator"}
VIEW_NETWORK = {"can_view", "can_edit", "can_delete"}


def identity(context: CheckContext, document: dict[str, Any]) -> Iterator[CheckResult]:
    """Check the response to GET /1.0/auth/identities/current: one result for each missing entitlement."""
    name, groups = str(document.get("name", "")), [str(group) for group in document.get("effective_groups") or []]
    if not groups:
        yield context.fail("trust", f"the identity {name} is in no group", "no_identity_group", identity=name)
        return
    held: dict[str, set[str]] = {}
    for permission in document.get("effective_permissions") or []:
        url = str(permission.get("url", "")).removesuffix("?project=default")
        held.setdefault(url, set()).add(str(permission.get("entitlement", "")))
    subject = f"the identity {name} (groups: {', '.join(groups)})"
    missing = [*_missing_in_project(context, held), *_missing_for_network(context, held)]
    for entity, entitlement in missing:
        message = f"{subject} lacks {entitlement} on {entity.partition(' project=')[0]}"
        words = entity.split()
        permission = " ".join([*words[:2], entitlement, *words[2:]])
        yield context.fail("trust", message, "missing_entitlement", group=groups[0], permission=permission)
    if not missing:
        yield context.ok("trust", f"{subject} has all entitlements")


def _missing_in_project(context: CheckContext, held: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    """Yield what is missing for the CPI's project: `operator`, or the parts of it if some are there."""
    project = context.server.project_name
    entitlements = held.get(f"/1.0/projects/{project}", set())
    if "operator" in entitlements or EDIT_ALL & held.get(SERVER, set()):
        return
    parts = [part for part in OPERATOR_PARTS if part not in entitlements]
    is_in_parts = entitlements & set(OPERATOR_PARTS[1:])
    for part in parts if is_in_parts else ["operator"]:
        yield f"project {project}", part


def _missing_for_network(context: CheckContext, held: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    """Yield what is missing for the network of VMs, if the server does not show it in the project default."""
    network = context.server.network_name
    if not network or VIEW_ALL & held.get(SERVER, set()) or _is_visible(context, network):
        return
    project = held.get("/1.0/projects/default", set())
    if not VIEW_PROJECT & project:
        yield "project default", "can_view"
    if not VIEW_NETWORKS & project and not VIEW_NETWORK & held.get(f"/1.0/networks/{network}", set()):
        yield f"network {network} project=default", "can_view"


def _is_visible(context: CheckContext, network: str) -> bool:
    try:
        context.client().network(network, project="default")
    except errors.ServerError:
        return False
    return True
