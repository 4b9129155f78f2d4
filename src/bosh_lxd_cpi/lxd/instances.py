"""Stops and deletes an instance, whatever it is doing."""

from __future__ import annotations

import math

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.resources import Instance
from bosh_lxd_cpi.runtime.retry import RetryPolicy

REMOVE_RETRY = RetryPolicy(total_seconds=math.inf)
"""Until the call's deadline: the creation that the instance is busy with takes as long as its image is large."""
STOP_RETRY = RetryPolicy(total_seconds=math.inf, first_pause=1.0, longest_pause=1.0, max_attempts=5)


def remove(
    client: Client, name: str, *, retry: RetryPolicy = REMOVE_RETRY, stop_retry: RetryPolicy = STOP_RETRY
) -> Instance | None:
    """Stop and delete an instance. Return it as it was, or None if there is no such instance.

    The instance may start in the meantime, because its creation continues or its guest restarts it: then this looks
    again. Raises CloudError if the instance is protected.
    """
    try:
        for _ in retry.attempts(client.deadline):
            instance = client.instance(name)
            if instance.expanded_config.get("security.protection.delete") == "true":
                raise errors.CloudError(f"instance {name} is protected against deletion", code="protected", vm=name)
            try:
                if instance.status != "Stopped":
                    _stop(client, name, stop_retry)
                operations.run_operation(
                    client,
                    lambda: client.delete_instance(name),
                    what=f"deleting {name}",
                    name=name,
                    is_done=lambda: not operations.exists(lambda: client.instance(name)),
                )
                return instance
            except errors.AlreadyInState as failure:
                client.log.info(f"{failure}; reading the instance again")
            except errors.Busy as failure:
                client.log.info(f"{failure}; waiting for the other operation")
                operations.wait_for_pending(client, name, what=f"the other operation on {name}")
    except errors.NotFound:
        pass
    return None


def _stop(client: Client, name: str, retry: RetryPolicy) -> None:
    """Stop an instance at once.

    During a restart of the guest this fails with the text of any error. So an error without a class of its own is tried
    again.
    """
    for attempt in retry.attempts(client.deadline):
        try:
            operations.run_operation(
                client,
                lambda: client.set_instance_state(name, "stop", force=True),
                what=f"stopping {name}",
                name=name,
                is_done=lambda: client.instance(name).status == "Stopped",
            )
            return
        except errors.AlreadyInState:
            client.log.info(f"{name} is stopped already")
            return
        except errors.ServerError as failure:
            if type(failure) is not errors.ServerError or attempt.is_last:
                raise
            client.log.warn(f"{failure}; trying again")
