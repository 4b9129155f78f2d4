"""create_vm: from a stemcell, properties and networks to a running VM, or to nothing at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.actions import vms, volumes
from bosh_lxd_cpi.actions.context import Cpi, identifier
from bosh_lxd_cpi.guest import agent_settings, disks, firmware, networks
from bosh_lxd_cpi.guest.cloud_properties import VmProperties, parse_vm_properties
from bosh_lxd_cpi.guest.config_drive.drive import configured
from bosh_lxd_cpi.guest.networks import Nic
from bosh_lxd_cpi.lxd.features import Features
from bosh_lxd_cpi.lxd.operations import exists
from bosh_lxd_cpi.runtime import director_registry

STATE = "user.bosh.state"
CREATING, CREATED, FAILED = "creating", "created", "failed"


class Plan(NamedTuple):
    """All that is to be made, decided before anything is."""

    cid: str
    properties: VmProperties
    features: Features
    image: str
    instance_config: Mapping[str, str]
    nics: Mapping[str, Mapping[str, str]]
    drive: bytes
    pool: str
    ephemeral_pool: str
    target: str

    @property
    def disk_devices(self) -> dict[str, dict[str, str]]:
        """The devices for the volumes that this VM brings along."""
        ephemeral, config = disks.own_volumes(self.cid)
        devices = {disks.CONFIG_DEVICE: disks.volume_device(self.pool, config)}
        if self.properties.ephemeral_disk:
            devices[disks.EPHEMERAL_DEVICE] = disks.volume_device(self.ephemeral_pool, ephemeral)
        return devices

    @property
    def other_devices(self) -> dict[str, Mapping[str, str]]:
        """All other devices: they need no volume to be there first."""
        root = disks.root_device(self.pool, self.properties.root_disk)
        return {**self.properties.devices, **self.nics, disks.ROOT_DEVICE: root}


def create_vm(
    cpi: Cpi,
    agent_id: str,
    stemcell_cid: str,
    cloud_properties: Any,
    bosh_networks: Any,
    disk_cids: Any = None,
    env: Any = None,
) -> list[Any]:
    """Make and start a VM; answers its CID and its networks.

    Requests on a single server: itself, stemcell alias, networks; ephemeral volume; config drive and wait; instance and
    wait; mark as complete. Nothing is left of a VM that failed. Raises VMCreationFailed, to be retried when what stood in
    the way may pass; otherwise what says best what has to be mended.
    """
    if not isinstance(agent_id, str) or not isinstance(env or {}, dict):
        raise errors.BadRequest("agent_id must be a text and env a mapping")
    stemcell_cid = identifier(stemcell_cid, "stemcell_cid")
    wanted = parse_vm_properties(cloud_properties)
    uuid = cpi.new_id()
    nics = networks.nics(bosh_networks, default=wanted.network or cpi.config.server.network_name, uuid=uuid)
    cid, kept = f"vm-{uuid}", []
    try:
        plan, answer = _plan(cpi, cid, agent_id, stemcell_cid, wanted, bosh_networks, nics, env or {})
        with cpi.exclusive(cid), cpi.rollback() as rollback:
            director_registry.remember(cpi.config.lock_directory(), cpi.director)
            rollback.add(f"VM {cid}", lambda: _take_back(cpi, plan, kept))
            _make(cpi, plan)
    except errors.CloudError as failure:
        if kept:
            raise errors.VMCreationFailed(
                failure.brief,
                detail=failure.detail,
                hint=hints.text("vm_kept", vm=cid, **cpi.client.names),
                ok_to_retry=False,
            ) from failure
        raise _as_creation_failure(failure) from failure
    return [cid, answer]


def _take_back(cpi: Cpi, plan: Plan, kept: list[str]) -> None:
    cid = plan.cid
    if cpi.config.keep_failed_vms and exists(lambda: cpi.client.instance(cid)):
        kept.append(cid)
        vms.describe(cpi, cid, description="its creation failed, kept for inspection", config={STATE: FAILED})
    else:
        vms.destroy(cpi, cid, its_pools=(plan.pool, plan.ephemeral_pool))


def _as_creation_failure(failure: errors.CloudError) -> errors.CloudError:
    """The director retries VMCreationFailed alone; what names its own hint is clearer as it is."""
    if failure.transient or isinstance(failure, errors.AlreadyExists):
        return errors.VMCreationFailed(failure.brief, detail=failure.detail, hint=failure.hint, ok_to_retry=True)
    if failure.hint or not isinstance(failure, errors.ServerError):
        return failure
    return errors.VMCreationFailed(failure.brief, detail=failure.detail, ok_to_retry=False)


def _plan(
    cpi: Cpi,
    cid: str,
    agent_id: str,
    stemcell_cid: str,
    wanted: VmProperties,
    bosh_networks: Any,
    nics: list[Nic],
    env: dict[str, Any],
) -> tuple[Plan, dict[str, Any]]:
    """Ask the server what has to be known, and decide. Also answers the networks for BOSH."""
    config, server = cpi.config, cpi.config.server
    features = cpi.features()
    if not features.virtual_machines:
        raise errors.CloudError(
            f"the server at {server.url} cannot run virtual machines", hint=hints.text("no_vms", client=features.client)
        )
    image, stemcell = _stemcell(cpi, stemcell_cid)
    known = known_networks(cpi, {nic.parent for nic in nics})
    devices = networks.devices(nics, known)
    by_dhcp = networks.reserved(nics, known) if server.managed_network_assignment == "dhcp" else set()
    document = agent_settings.agent_settings(
        agent_id=agent_id,
        vm_cid=cid,
        networks=networks.for_agent(bosh_networks, nics, by_dhcp),
        env=env,
        mbus=config.agent.mbus,
        ntp=list(config.agent.ntp),
        ephemeral=bool(wanted.ephemeral_disk),
        kind=features.kind,
    )
    drive = configured(document, config.agent_config)
    boot = firmware.config(stemcell, dialect=features.firmware, overrides=server.instance_config)
    pool = wanted.storage_pool or server.storage_pool_name
    plan = Plan(
        cid=cid,
        properties=wanted,
        features=features,
        image=image,
        nics=devices,
        drive=drive,
        pool=pool,
        instance_config={**boot, **wanted.config, **wanted.limits(), **vms.tags(dict(wanted.tags)), **cpi.marks()},
        ephemeral_pool=wanted.ephemeral_storage_pool or pool,
        target=networks.target(nics, wanted.target) or server.target,
    )
    return plan, networks.answer(bosh_networks, by_dhcp)


def _stemcell(cpi: Cpi, cid: str) -> tuple[str, str]:
    """Fingerprint and name of a stemcell. Its line decides the firmware."""
    try:
        alias = cpi.client.alias(cid).metadata
        if not alias.get("description"):
            image = cpi.client.image(alias["target"]).metadata
            return alias["target"], str((image.get("properties") or {}).get("description", ""))
        return alias["target"], alias["description"]
    except errors.NotFound:
        raise errors.StemcellNotFound(
            f"there is no stemcell {cid} in project {cpi.client.project}", hint=hints.text("no_image")
        ) from None


def known_networks(cpi: Cpi, wanted: set[str]) -> dict[str, dict[str, Any]]:
    """The server's networks by name. Those that this project's own list hides are looked up in the default project,
    where a VM of any project can use its bridges; they are `foreign` (facts: lxd-api 9)."""
    known = {network["name"]: network for network in cpi.client.networks().metadata}
    if wanted - known.keys() and cpi.client.project != "default":
        try:
            everyones = cpi.client.networks(project="default").metadata
        except errors.Untrusted:
            everyones = []
        known = {**{network["name"]: {**network, "foreign": True} for network in everyones}, **known}
    return known


def _make(cpi: Cpi, plan: Plan) -> None:
    """Volumes first, then one request makes and starts the VM with all it needs.

    In a cluster the volumes have to be where the scheduler puts the VM, so there it comes first, without them.
    """
    body = {
        "name": plan.cid,
        "type": "virtual-machine",
        "source": {"type": "image", "fingerprint": plan.image},
        "profiles": list(plan.properties.profiles) or [cpi.config.server.profile_name],
        "config": {**plan.instance_config, STATE: CREATING},
        "description": "being created by BOSH",
        **({"instance_type": plan.properties.named_type()} if plan.properties.named_type() else {}),
    }
    if plan.features.clustered:
        _create_instance(cpi, plan, {**body, "devices": plan.other_devices})
        instance, etag = _read(cpi, plan.cid)
        _create_volumes(cpi, plan, target=instance["location"])
        changed = {**instance, "devices": {**instance["devices"], **plan.disk_devices}}
        cpi.run_operation(
            lambda: cpi.client.replace_instance(plan.cid, changed, etag), what=f"giving {plan.cid} its disks"
        )
        vms.start(cpi, plan.cid)
    else:
        _create_volumes(cpi, plan, target="")
        starts = plan.features.start_on_create
        devices = {**plan.other_devices, **plan.disk_devices}
        _create_instance(cpi, plan, {**body, "devices": devices, **({"start": True} if starts else {})})
        if not starts:
            vms.start(cpi, plan.cid)
    vms.describe(cpi, plan.cid, description="made by BOSH", config={STATE: CREATED})


def _read(cpi: Cpi, cid: str) -> tuple[dict[str, Any], str]:
    reply = cpi.client.instance(cid)
    return reply.metadata, reply.etag


def _create_instance(cpi: Cpi, plan: Plan, body: dict[str, Any]) -> None:
    cpi.log.info(f"making {plan.cid} from image {plan.image[:12]}")
    wanted = "Running" if body.get("start") else "Stopped"
    cpi.run_operation(
        lambda: cpi.client.create_instance(body, target=plan.target if plan.features.clustered else ""),
        what=f"creating {plan.cid}",
        name=plan.cid,
        is_done=lambda: exists(lambda: cpi.client.instance(plan.cid)) and _read(cpi, plan.cid)[0]["status"] == wanted,
    )


def _create_volumes(cpi: Cpi, plan: Plan, *, target: str) -> None:
    ephemeral, config = disks.own_volumes(plan.cid)
    if plan.properties.ephemeral_disk:
        volumes.create_volume(
            cpi, plan.ephemeral_pool, ephemeral, plan.properties.ephemeral_disk, config=cpi.marks(), target=target
        )
    volumes.import_drive(cpi, plan.pool, config, plan.drive, features=plan.features, target=target)
