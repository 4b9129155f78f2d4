"""Decide what can go, and remove it.

Why this harms no create_vm that is under way, whatever the minimum age:

1. The server is read first, the locks after that. create_vm holds a lock named after its VM (see `pending`) from before
   the first resource exists. So whatever was found, and its lock is free, belongs to a create_vm that is over or dead.
2. A create_vm that succeeded has its VM marked as created, and the VM uses its volumes. So a VM that seemed half-made
   is read again, after its lock was seen free; and no server deletes a volume that an instance has, running or not.

The locks are those of this machine. For what another one makes, and where TMPDIR or throttle_config.path differ from
the director's, there is the age: create_vm gives up after half an hour, so nothing that is an hour old is being made.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin import inventory
from bosh_lxd_cpi.admin.cleanup import table
from bosh_lxd_cpi.admin.inventory import Inventory, Resource
from bosh_lxd_cpi.lxd import instances, operations
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.model import labels, naming
from bosh_lxd_cpi.runtime import locks
from bosh_lxd_cpi.runtime.clock import Deadline

ALL = "all"
"""In place of a director: everybody."""
SECONDS = 300.0
"""Time for each removal."""
SLOW = 2.0
"""Seconds after which somebody who watches is told what takes so long."""
IN_USE, GONE, BEING_MADE = "in use", "gone by itself", "being made"


class Policy(NamedTuple):
    """What may be removed. `director` is a digest, or `ALL`; `min_age` seconds."""

    director: str
    min_age: float
    legacy: bool
    now: float

    def skip_reason(self, resource: Resource) -> str:
        """Empty when the resource can go."""
        if resource.kind in (inventory.DISK, inventory.SNAPSHOT):
            return "persistent"
        if resource.state in ("", inventory.FAILED):
            return "kept for inspection" if resource.state else IN_USE
        if resource.director == inventory.UNKNOWN_OWNER:
            if not (self.legacy and resource.kind == inventory.CONFIG):
                return "unmarked"
        elif self.director not in (ALL, resource.director):
            return "another director's"
        age = 0.0 if resource.created is None else self.now - resource.created
        return "too young" if age < self.min_age else ""


class Pruner:
    """Removes one resource after the other, and counts. A failure is told and counted, and stops nothing."""

    def __init__(self, client: Client, locks: str, *, dry_run: bool) -> None:
        self._client, self._locks, self._dry_run = client, locks, dry_run
        self._verb = "would remove" if dry_run else "removed"
        self.removed, self.failed = 0, 0
        self.kept: Counter[str] = Counter()

    def summary(self, unread: int) -> str:
        """One line: how many resources were removed, kept and why, and failed."""
        kept = ", ".join(f"{count} {reason}" for reason, count in sorted(self.kept.items()))
        return (
            f"{self._verb} {self.removed}, kept {sum(self.kept.values())}{f' ({kept})' if kept else ''},"
            f" failed {self.failed + unread}"
        )

    def run(self, found: Inventory, rules: Policy) -> None:
        """Remove everything that the rules allow, half-made VMs first and each followed by its own volumes."""
        done: set[Resource] = set()
        for resource in found.resources:  # VMs come first
            if resource in done:
                continue
            if reason := rules.skip_reason(resource):
                self.kept[reason] += 1
            elif self._remove(resource) and resource.kind == inventory.VM:
                for volume in found.own_volumes(resource):
                    self._remove(volume)
                    done.add(volume)

    def delete_disk(self, disk: Resource) -> None:
        """Remove a persistent disk with its snapshots."""
        self._remove(disk)
        if self.kept:
            raise errors.CloudError(f"disk {disk.cid} was not deleted: it is {next(iter(self.kept))}")

    def _remove(self, resource: Resource) -> bool:
        """Whether it is gone, or would be."""
        what = f"{resource.kind} {resource.cid}"
        if resource.pool and resource.kind != inventory.VM:
            what += f" in pool {resource.place}"
        self._client.deadline = Deadline(self._client.deadline.clock, SECONDS, what=f"removing {what}")
        try:
            kept = self._delete(resource, what)
        except errors.NotFound:
            kept = GONE
        except errors.InUse:
            kept = IN_USE
        except (errors.CpiError, OSError) as failure:
            self.failed += 1
            brief = failure.message if isinstance(failure, errors.CpiError) else str(failure)
            print(self._client.log.redact(f"cleanup: {brief}"), file=sys.stderr)
            return False
        if kept:
            self.kept[kept] += 1
            return False
        self.removed += 1
        age = None if resource.created is None else self._client.deadline.clock.time() - resource.created
        print(f"{self._verb} {what} ({resource.state or 'its disk'}, {table.age(age)} old)", flush=True)
        return True

    def _delete(self, resource: Resource, what: str) -> str:
        """Delete it, unless there is a reason to keep it after all, which is answered. Raises CpiError, OSError."""
        # The order makes it safe, see the top of this file: listed, then the lock, then for VMs the state again.
        if locks.is_being_created(self._locks, naming.vm_cid(resource.uuid)):
            return BEING_MADE
        if resource.kind == inventory.VM and not self._still_half_made(resource.cid):
            return IN_USE
        if resource.kind == inventory.IMAGE and self._client.image(resource.cid).metadata.get("aliases"):
            return IN_USE
        if self._dry_run:
            return ""
        with patience(f"removing {what}"):
            if resource.kind == inventory.VM:
                return "" if instances.remove(self._client, resource.cid) else GONE
            if resource.kind == inventory.IMAGE:
                operations.run_operation(
                    self._client, lambda: self._client.delete_image(resource.cid), what=f"deleting {what}"
                )
            else:
                member = "" if resource.location == "none" else resource.location
                operations.run_operation(
                    self._client,
                    what=f"deleting {what}",
                    request=lambda: self._client.delete_volume(resource.pool, resource.cid, target=member),
                )
        return ""

    def _still_half_made(self, name: str) -> bool:
        return self._client.instance(name).metadata["config"].get(labels.STATE) == labels.CREATING


@contextmanager
def patience(what: str) -> Iterator[None]:
    """Say what is going on if it takes longer than a moment."""
    timer = threading.Timer(SLOW, lambda: print(f"cleanup: {what} ...", file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
