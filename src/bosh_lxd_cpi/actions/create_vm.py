"""create_vm: from a stemcell, cloud_properties and networks to a running VM."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import placement, root_disks, vms, volumes
from bosh_lxd_cpi.actions.context import Context, parse_cid
from bosh_lxd_cpi.guest import agent_settings, disks, firmware
from bosh_lxd_cpi.guest.cloud_properties import MASK, VmProperties, parse_vm_properties
from bosh_lxd_cpi.guest.config_drive import drive
from bosh_lxd_cpi.guest.networks import NetworkPlan
from bosh_lxd_cpi.lxd import instances
from bosh_lxd_cpi.lxd.features import Features
from bosh_lxd_cpi.lxd.operations import exists
from bosh_lxd_cpi.model import labels, naming
from bosh_lxd_cpi.runtime import director_registry


class Plan(NamedTuple):
    """Everything that create_vm decides before its first change."""

    cid: str
    properties: VmProperties
    features: Features
    image: str
    instance_config: Mapping[str, str]
    nics: Mapping[str, Mapping[str, str]]
    drive: bytes
    pool: str
    root_disk: int
    ephemeral_pool: str
    target: str

    @property
    def disk_devices(self) -> dict[str, dict[str, str]]:
        """The devices of the volumes that belong to this VM alone."""
        ephemeral, config = naming.own_volumes(self.cid)
        devices = {naming.CONFIG_DEVICE: disks.volume_device(self.pool, config)}
        if self.properties.ephemeral_disk:
            devices[naming.EPHEMERAL_DEVICE] = disks.volume_device(self.ephemeral_pool, ephemeral)
        return devices

    @property
    def other_devices(self) -> dict[str, Mapping[str, str]]:
        """All other devices. They need no volume."""
        root = disks.root_device(self.pool, self.root_disk)
        return {**self.properties.devices, **self.nics, naming.ROOT_DEVICE: root}


def create_vm(  # noqa: PLR0917  BOSH passes arguments by position
    context: Context,
    agent_id: str,
    stemcell_cid: str,
    cloud_properties: Any,
    bosh_networks: Any,
    disk_cids: Any = None,
    env: Any = None,
) -> list[Any]:
    """Create and start a VM. Return its CID and its networks.

    Requests on a single server: server, stemcell alias, each network, pool if `root_disk` is set; ephemeral volume;
    config drive and wait; instance and wait; label. On a cluster, a VM with disks is created where they are, if its
    targets allow that. If the creation fails, no resources are left on the server. Raises VMCreationFailed, which the
    director retries if the reason may pass, or an error with a hint of its own.
    """
    if not isinstance(agent_id, str) or not isinstance(env or {}, dict):
        raise errors.BadRequest("agent_id must be a string and env an object")
    stemcell_cid = parse_cid(stemcell_cid, "stemcell_cid")
    properties = parse_vm_properties(cloud_properties)
    uuid = context.new_id()
    default_network = properties.network or context.config.server.network_name
    networks = NetworkPlan.build(bosh_networks, default_network=default_network, vm_uuid=uuid)
    cid = naming.vm_cid(uuid)
    kept: list[str] = []
    try:
        plan, answer = _plan(
            context,
            cid,
            agent_id=agent_id,
            stemcell_cid=stemcell_cid,
            properties=properties,
            networks=networks,
            disk_cids=disk_cids,
            env=env or {},
        )
        with context.exclusive(cid), context.rollback() as rollback:
            director_registry.remember(context.config.lock_directory(), context.director)
            rollback.add(f"VM {cid}", lambda context: _remove_or_keep(context, plan, kept))
            _create_after_conflicts(context, plan)
    except (errors.Interrupted, errors.CloudError) as failure:
        if kept:
            raise errors.VMCreationFailed(str(failure), ok_to_retry=False, code="vm_kept", vm=cid) from failure
        if isinstance(failure, errors.Interrupted):
            raise errors.VMCreationFailed(str(failure), ok_to_retry=True) from failure
        if failure.code == "dns_name_taken":
            failure.fields["network"] = " ".join(networks.shared_parents)
        if failure.code == "unknown_option":
            in_properties = failure.fields["key"] in properties.config
            failure.fields["setting"] = "cloud_properties.config" if in_properties else "server.instance_config"
        raise _as_creation_failure(failure) from failure
    return [cid, answer]


def _create_after_conflicts(context: Context, plan: Plan) -> None:
    """Create the VM. If VMs of interrupted creations conflict with it, remove them and create the VM again."""
    try:
        _create(context, plan)
    except (errors.AddressTaken, errors.AlreadyExists, errors.InUse) as failure:
        from bosh_lxd_cpi.actions import interrupted_creations

        interrupted_creations.remove_conflicting_vms(context, plan.cid, devices=plan.other_devices, failure=failure)
        vms.destroy(context, plan.cid, extra_pools=(plan.pool, plan.ephemeral_pool))
        _create(context, plan)


def _remove_or_keep(context: Context, plan: Plan, kept: list[str]) -> None:
    """Delete the VM. If keep_failed_vms is set, keep it and append its CID to `kept`."""
    if context.config.keep_failed_vms and exists(lambda: context.client.instance(plan.cid)):
        kept.append(plan.cid)
        description = "its creation failed, kept for inspection"
        vms.describe(context, plan.cid, description=description, config={labels.STATE: labels.FAILED})
    else:
        vms.destroy(context, plan.cid, extra_pools=(plan.pool, plan.ephemeral_pool))


def _as_creation_failure(failure: errors.CloudError) -> errors.CloudError:
    """Return VMCreationFailed, the only type that the director retries, or the error itself if it has a hint."""
    if failure.transient or isinstance(failure, errors.AlreadyExists):
        return errors.VMCreationFailed(
            failure.brief, detail=failure.detail, ok_to_retry=True, code=failure.code, **failure.fields
        )
    if failure.code or not isinstance(failure, errors.ServerError):
        return failure
    return errors.VMCreationFailed(failure.brief, detail=failure.detail, ok_to_retry=False)


def _plan(
    context: Context,
    cid: str,
    *,
    agent_id: str,
    stemcell_cid: str,
    properties: VmProperties,
    networks: NetworkPlan,
    disk_cids: Any,
    env: dict[str, Any],
) -> tuple[Plan, dict[str, Any]]:
    """Read what is needed from the server, and decide. Also return the networks for BOSH."""
    config, server = context.config, context.config.server
    features = context.features()
    if not features.has_virtual_machines:
        raise errors.CloudError(f"the server at {server.url} cannot run virtual machines", code="no_vms")
    image, stemcell = _stemcell(context, stemcell_cid)
    server_networks = _read_networks(context, networks.parents)
    resolved = networks.resolve(server_networks, assignment=server.managed_network_assignment)
    settings = agent_settings.agent_settings(
        agent_id=agent_id,
        vm_cid=cid,
        networks=resolved.agent_networks,
        env=env,
        mbus=config.agent.mbus,
        ntp=config.agent.ntp,
        ephemeral=bool(properties.ephemeral_disk),
        kind=features.kind,
    )
    boot = firmware.config(stemcell, dialect=features.firmware, overrides=server.instance_config)
    pool = properties.storage_pool or server.storage_pool_name
    targets = networks.targets(properties.target) or {server.target} - {""}
    plan = Plan(
        cid=cid,
        properties=properties,
        features=features,
        image=image,
        nics=resolved.devices,
        drive=drive.build(settings, config.agent_config),
        pool=pool,
        root_disk=root_disks.size(context, features, pool=pool, root_disk=properties.root_disk),
        instance_config={
            **boot,
            **properties.config,
            **properties.limits(),
            **labels.metadata_labels(properties.tags),
            **context.owner_labels(),
        },
        ephemeral_pool=properties.ephemeral_storage_pool or pool,
        target=placement.vm_target(context, targets, disk_cids) if features.is_clustered else "",
    )
    return plan, resolved.answer


def _stemcell(context: Context, cid: str) -> tuple[str, str]:
    """Return fingerprint and name of a stemcell. Its name decides the firmware."""
    try:
        alias = context.client.alias(cid)
        name = alias.description or str(context.client.image(alias.target).properties.get("description", ""))
    except errors.NotFound:
        raise errors.StemcellNotFound(
            f"there is no stemcell {cid} in project {context.client.project}", code="no_image"
        ) from None
    return alias.target, name


def _read_networks(context: Context, names: set[str]) -> dict[str, dict[str, Any]]:
    """Return the server's networks with these names, one request each. A network that does not exist is missing.

    A network that the project hides is looked up in the default project, where a VM of any project can use its bridges.
    It is marked as `foreign` (docs/development/lxd-api.md §9).
    """
    networks = {}
    for name in sorted(names):
        for project in dict.fromkeys((context.client.project, "default")):
            with contextlib.suppress(errors.NotFound, errors.Forbidden):
                network = context.client.network(name, project=project)
                properties = {"type": network.type, "managed": network.managed, "config": network.config}
                networks[name] = {**properties, "foreign": project != context.client.project}
                break
    return networks


def _create(context: Context, plan: Plan) -> None:
    """Create the volumes, then the VM: one request creates and starts it.

    On a cluster, the volumes have to be on the member that the scheduler selects for the VM. So the VM comes first,
    without them.
    """
    named_type = plan.properties.named_type()
    body = {
        "name": plan.cid,
        "type": "virtual-machine",
        "source": {"type": "image", "fingerprint": plan.image},
        "profiles": list(plan.properties.profiles) or [context.config.server.profile_name],
        "config": {**plan.instance_config, labels.STATE: labels.CREATING},
        "description": "being created by BOSH",
        **({"instance_type": named_type} if named_type else {}),
    }
    if plan.features.is_clustered:
        _create_instance(context, plan, {**body, "devices": plan.other_devices})
        instance = context.client.instance(plan.cid)
        _create_volumes(context, plan, target=instance.location)
        devices = {**instance.devices, **plan.disk_devices}
        context.run_operation(
            lambda: context.client.replace_instance(plan.cid, {**instance.document, "devices": devices}, instance.etag),
            what=f"attaching the volumes of {plan.cid}",
            name=plan.cid,
            is_done=lambda: context.client.instance(plan.cid).devices == devices,
        )
        vms.start(context, plan.cid)
    else:
        _create_volumes(context, plan, target="")
        starts = plan.features.starts_on_create
        devices = {**plan.other_devices, **plan.disk_devices}
        _create_instance(context, plan, {**body, "devices": devices, **({"start": True} if starts else {})})
        if not starts:
            vms.start(context, plan.cid)
    vms.describe(context, plan.cid, description="made by BOSH", config={labels.STATE: labels.CREATED})


def _create_instance(context: Context, plan: Plan, body: dict[str, Any]) -> None:
    context.log.info(f"creating {plan.cid} from image {plan.image[:12]}")

    def create(devices: Mapping[str, Any]) -> None:
        context.run_operation(
            lambda: context.client.create_instance({**body, "devices": devices}, target=plan.target),
            what=f"creating {plan.cid}",
            name=plan.cid,
            pool=plan.pool,
            start_over=lambda: instances.remove(context.client, plan.cid),
        )

    try:
        create(body["devices"])
    except errors.CloudError as failure:
        if failure.code != "two_root_disks":
            raise
        create({**_masks_of_root_disks(context, body["profiles"]), **body["devices"]})


def _masks_of_root_disks(context: Context, profiles: list[str]) -> dict[str, dict[str, str]]:
    """Return devices that mask the root disks of these profiles, which have another name than the CPI's."""
    return {
        name: MASK
        for profile in context.client.profiles()
        if profile.name in profiles
        for name, device in profile.devices.items()
        if device.get("path") == "/"
    }


def _create_volumes(context: Context, plan: Plan, *, target: str) -> None:
    ephemeral, config = naming.own_volumes(plan.cid)
    size = plan.properties.ephemeral_disk
    if size:
        owner_labels = context.owner_labels()
        volumes.create_volume(context, plan.ephemeral_pool, ephemeral, size=size, config=owner_labels, target=target)
    volumes.import_drive(context, plan.pool, config, content=plan.drive, features=plan.features, target=target)
