"""An instance's end: stopped and deleted, whatever it is doing."""

from __future__ import annotations

from typing import Any

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.lxd.client import Client

STOPS, STOP_PAUSE = 5, 1.0


def remove(client: Client, name: str) -> dict[str, Any] | None:
    """Stop and delete an instance; answers what it was, or None when there was none.

    It may start while this looks: its creation goes on, or its guest restarts it.
    """
    try:
        while True:
            instance = client.instance(name).metadata
            if (instance.get("expanded_config") or {}).get(
                "security.protection.delete"
            ) == "true":  # before it is stopped
                raise errors.CloudError(
                    f"instance {name} is protected from being deleted",
                    hint=hints.text("protected", vm=name, **client.names),
                )
            try:
                if instance["status"] != "Stopped":
                    _stop(client, name)
                operations.run_operation(
                    client,
                    lambda: client.delete_instance(name),
                    what=f"deleting {name}",
                    name=name,
                    is_done=lambda: not operations.exists(lambda: client.instance(name)),
                )
                return instance
            except errors.AlreadyInState as failure:
                client.log.info(f"{failure}; looking again")
            except errors.Busy as failure:  # with its creation, which takes as long as its image is large
                client.log.info(f"{failure}; waiting for that")
                operations.await_pending(client, name, f"what {name} is busy with")
    except errors.NotFound:
        return None


def _stop(client: Client, name: str) -> None:
    """Stop an instance at once. In the midst of a restart that fails in the words of whatever went wrong: try again."""
    for left in reversed(range(STOPS)):
        try:
            operations.run_operation(
                client,
                lambda: client.set_instance_state(name, "stop", force=True),
                what=f"stopping {name}",
                name=name,
                is_done=lambda: client.instance(name).metadata["status"] == "Stopped",
            )
            return
        except errors.AlreadyInState:
            client.log.info(f"{name} is stopped already")
            return
        except errors.ServerError as failure:
            if type(failure) is not errors.ServerError or not left:  # what has a class of its own is known not to pass
                raise
            client.log.warn(f"{failure}; trying again")
            client.deadline.sleep(STOP_PAUSE)
