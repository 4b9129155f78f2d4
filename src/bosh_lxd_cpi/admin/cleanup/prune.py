"""Selects unused resources and removes them.

Why this is safe for a create_vm that runs at the same time, whatever the minimum age is:

1. The pruner reads the server first and the locks afterwards. create_vm holds a lock with the name of its VM (see
   runtime/locks.py) from before its first resource until after its last request. So if the lock of a listed resource is
   free, its create_vm has ended.
2. A create_vm that succeeded has labelled its VM as created, and the VM uses its volumes. So the pruner reads an
   incomplete VM again after it has seen the lock free. And no server deletes a volume that an instance uses, running or
   stopped.

Images have a lock of their own (actions/images.py).

The locks are those of this machine. A lock whose holder was killed shows that the creation of a VM was interrupted, so
its resources are removed at any age. For resources that other machines create, and for a TMPDIR or throttle_config.path
that differs from the director's, there is the minimum age: create_vm gives up after half an hour.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Collection, Container
from typing import NamedTuple

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import images, stemcells
from bosh_lxd_cpi.actions.context import Context
from bosh_lxd_cpi.admin import cli, inventory
from bosh_lxd_cpi.admin.cleanup import table
from bosh_lxd_cpi.admin.inventory import Inventory, Resource
from bosh_lxd_cpi.admin.output import OK, SKIP, Terminal
from bosh_lxd_cpi.lxd import instances, operations
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.model import labels, naming
from bosh_lxd_cpi.runtime import locks
from bosh_lxd_cpi.runtime.clock import Deadline

ALL = "all"
"""Selects all directors."""
REMOVAL_SECONDS = 300.0
"""Time for each removal."""
REMOVED, WOULD_REMOVE, KEPT, FAILED = "removed", "would remove", "kept", "failed"
COLORS = {REMOVED: OK, WOULD_REMOVE: SKIP}
"""The status whose color an action has."""
IN_USE, ALREADY_GONE, BEING_CREATED = "in use", "already gone", "being created"
UNAVAILABLE = "on an unavailable cluster member"
STATES_TO_KEEP = {inventory.FAILED: "kept for inspection", inventory.SUPERSEDED: "superseded", "": IN_USE}
"""States of resources that are not removed, with the reason. Superseded stemcells are removed by name only, because
another CPI of the same director can have them."""


class Policy(NamedTuple):
    """What the pruner may remove: resources of `director`, a digest or `ALL`, not younger than `min_age` seconds.

    The minimum age does not apply to the resources of `interrupted`, which are CIDs of VMs. They were read after the
    resources. `remove_legacy` adds the unused config drives of go-lxd-cpi, whose owner is unknown.
    """

    director: str
    min_age: float
    remove_legacy: bool
    now: float
    interrupted: Collection[str] = ()

    def skip_reason(self, resource: Resource) -> str:
        """Return why a resource must stay, or "" if it can be removed."""
        if resource.kind in (inventory.DISK, inventory.SNAPSHOT):
            return "persistent"
        if resource.state in STATES_TO_KEEP:
            return STATES_TO_KEEP[resource.state]
        if resource.director == inventory.UNKNOWN_OWNER:
            if not (self.remove_legacy and resource.kind == inventory.CONFIG):
                return "of unknown owner"
        elif self.director not in (ALL, resource.director):
            return "of another director"
        age = 0.0 if resource.created is None else self.now - resource.created
        is_interrupted = naming.vm_cid(resource.uuid) in self.interrupted
        return "too young" if age < self.min_age and not is_interrupted else ""


class Outcome(NamedTuple):
    """What happened to a resource: the action, and the reason if it was kept or the removal failed."""

    resource: Resource
    action: str
    reason: str = ""


class Pruner:
    """Removes resources one by one. A failure is printed; the pruner continues.

    `shown` are the actions of which a line is printed.
    """

    def __init__(
        self, context: Context, program: cli.Program, *, dry_run: bool, shown: Container[str] = (REMOVED, WOULD_REMOVE)
    ) -> None:
        self._context, self._program, self._dry_run, self._shown = context, program, dry_run, shown
        self._verb = WOULD_REMOVE if dry_run else REMOVED
        self._terminal = Terminal()
        self._lock_directory = context.config.lock_directory()
        self._unavailable: set[str] = set()
        self.outcomes: list[Outcome] = []

    def summary(self, unreadable: int) -> str:
        """Return one line with the numbers of removed, kept and failed resources. `unreadable` are failures, too."""
        numbers = Counter(outcome.action for outcome in self.outcomes)
        kept = Counter(outcome.reason for outcome in self.outcomes if outcome.action == KEPT)
        reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(kept.items()))
        return (
            f"{self._verb} {numbers[self._verb]}, kept {numbers[KEPT]}{f' ({reasons})' if reasons else ''},"
            f" failed {numbers[FAILED] + unreadable}"
        )

    @property
    def has_failures(self) -> bool:
        return any(outcome.action == FAILED for outcome in self.outcomes)

    def _add(self, resource: Resource, action: str, reason: str = "") -> None:
        self.outcomes.append(Outcome(resource, action, reason))
        if action in self._shown:
            age = table.age(None if resource.created is None else self._context.clock.time() - resource.created)
            about = f"{resource.state or 'volume of the VM'}, {age} old" if action != KEPT else reason
            print(f"{self._terminal.color(action, COLORS.get(action, ''))} {_name(resource)} ({about})", flush=True)

    def run(self, stock: Inventory, policy: Policy) -> None:
        """Remove everything that the policy allows. The own volumes of an incomplete VM follow the VM."""
        handled: set[Resource] = set()
        self._unavailable |= stock.unavailable
        for resource in stock.resources:  # VMs come first
            if resource in handled:
                continue
            if reason := policy.skip_reason(resource):
                self._add(resource, KEPT, reason)
            elif resource.location in self._unavailable:
                self._add(resource, KEPT, UNAVAILABLE)
            elif self._remove(resource) and resource.kind == inventory.VM:
                for volume in stock.own_volumes(resource):
                    self._remove(volume)
                    handled.add(volume)
        if not self._dry_run:
            self._remove_locks(policy)

    def _remove_locks(self, policy: Policy) -> None:
        """Remove the files of abandoned locks whose resources were removed, or that are older than the minimum age."""
        removed = {naming.vm_cid(outcome.resource.uuid) for outcome in self.outcomes if outcome.action == REMOVED}
        for name in policy.interrupted:
            created_before = math.inf if name in removed else policy.now - policy.min_age
            with contextlib.suppress(OSError):
                locks.remove_abandoned(self._lock_directory, name, created_before=created_before)

    def delete(self, resource: Resource) -> None:
        """Remove a persistent disk with its snapshots, or a stemcell. Raises CloudError if it is in use."""
        self._remove(resource)
        for _, action, reason in self.outcomes:
            if action == KEPT:
                raise errors.CloudError(f"{resource.kind} {resource.cid} was not deleted: it is {reason}")

    def _remove(self, resource: Resource) -> bool:
        """Remove a resource. Return whether it is removed, or would be."""
        name = _name(resource)
        deadline = Deadline(self._context.clock, REMOVAL_SECONDS, what=f"removing {name}")
        context = self._context.with_deadline(deadline)
        try:
            if resource.kind == inventory.IMAGE:
                skip_reason = self._delete_image(context, resource, name)
            else:
                skip_reason = self._delete(context.client, resource, name)
        except errors.NotFound:
            skip_reason = ALREADY_GONE
        except errors.InUse:
            skip_reason = IN_USE
        except (errors.CpiError, OSError) as failure:
            self._program.print_error(failure)
            self._add(resource, FAILED, self._program.log.redact(str(failure)))
            if isinstance(failure, errors.MemberUnavailable):  # the same for its other resources
                self._unavailable.add(resource.location)
            return False
        if skip_reason:
            self._add(resource, KEPT, skip_reason)
        else:
            self._add(resource, self._verb)
        return not skip_reason

    def _delete(self, client: Client, resource: Resource, name: str) -> str:
        """Delete a resource, or return why it must stay after all. Raises CpiError and OSError.

        The order makes this safe, see the top of this file: first the list, then the lock, then the state of a VM.
        """
        if locks.is_held(self._lock_directory, naming.vm_cid(resource.uuid)):
            return BEING_CREATED
        if resource.kind == inventory.VM and not _is_incomplete(client, resource.cid):
            return IN_USE
        if self._dry_run:
            return ""
        with self._program.progress(f"removing {name}"):
            if resource.kind == inventory.VM:
                return "" if instances.remove(client, resource.cid) else ALREADY_GONE
            member = "" if resource.location in inventory.NO_MEMBER else resource.location
            operations.run_operation(
                client,
                lambda: client.delete_volume(resource.pool, resource.cid, target=member),
                what=f"deleting {name}",
            )
        return ""

    def _delete_image(self, context: Context, resource: Resource, name: str) -> str:
        """Delete a stemcell, or an image without one. Return the reason to keep it, or "". Raises CpiError.

        actions/images.py describes why this is safe for a create_stemcell that runs at the same time.
        """
        if resource.state != inventory.NO_ALIAS:
            if not self._dry_run:
                stemcells.delete_stemcell(context, resource.cid)
            return ""
        image = context.client.image(resource.cid)
        stemcell = str(image.properties.get(labels.IMAGE_STEMCELL, ""))
        directory = context.config.lock_directory()
        try:
            with locks.exclusive(directory, naming.stemcell_lock(stemcell), log=context.log, sleep=_raise_lock_is_held):
                if images.stemcell_aliases(image.alias_names):
                    return IN_USE
                if self._dry_run:
                    return ""
                with self._program.progress(f"removing {name}"):
                    return "" if images.delete_unused(context, resource.cid) else IN_USE
        except _LockIsHeldError:
            return BEING_CREATED


def _name(resource: Resource) -> str:
    """Return kind and CID, and the pool of a volume."""
    place = f" in pool {resource.place}" if resource.pool and resource.kind != inventory.VM else ""
    return f"{resource.kind} {resource.cid}{place}"


class _LockIsHeldError(Exception):
    """A create_stemcell or delete_stemcell holds the lock of the stemcell."""


def _raise_lock_is_held(seconds: float) -> None:
    raise _LockIsHeldError


def _is_incomplete(client: Client, name: str) -> bool:
    return bool(client.instance(name).config.get(labels.STATE) == labels.CREATING)
