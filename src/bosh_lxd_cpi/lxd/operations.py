"""From a mutation to its end: wait for the operation, and settle what a lost answer leaves open.

`/wait` answers differently in every server line, and after a time-out some lie with an error (facts: lxd-api 2): only
success can be believed from it, all else is looked up. A finished operation is forgotten after five seconds and at every
restart of the daemon, so 404 says nothing: then the caller's `is_done` looks at the resource itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.client import FIRST_PAUSE, LONGEST_PAUSE, PATIENCE, WAIT_SLICE, Client
from bosh_lxd_cpi.lxd.envelope import Response, WaitEnded, error_for

SUCCESS, FAILURE = 200, 400
FINAL = ("success", "failure", "cancelled")


def run_operation(
    client: Client,
    request: Callable[[], Response],
    *,
    what: str,
    name: str = "",
    is_done: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Send a mutation and see it through; returns the operation's metadata, empty when there was no operation.

    While another operation is in the way it is sent again. When the answer or the operation got lost, an operation on
    the object `name` is waited for and `is_done` is asked whether the wanted state is there; if not, the mutation is sent
    again. Without `is_done` the loss is raised.
    """
    clock = client.deadline.clock
    pause, patience = FIRST_PAUSE, clock.monotonic() + PATIENCE
    lost = False
    while True:
        try:
            return wait(client, request(), what=what)
        except (errors.NoResponse, errors.OperationNotFound, errors.AlreadyExists) as failure:
            taken = isinstance(failure, errors.AlreadyExists)
            if is_done is None or (taken and not lost):
                raise
            lost = True
            client.log.warn(f"{failure}; looking whether it was done")
            await_pending(client, name, what)
            if is_done():
                return {}
            if taken or clock.monotonic() + pause > patience:
                raise
        except errors.Busy as failure:
            if clock.monotonic() + pause > patience:
                raise
            client.log.warn(f"{failure}; trying again")
        client.deadline.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def wait(client: Client, reply: Response, *, what: str) -> dict[str, Any]:
    """Wait until the operation of a reply is over; returns its metadata. Raises what its failure means."""
    while reply.operation:
        state = _state(client, reply.operation, what)
        if state.get("status_code", 0) >= SUCCESS:
            if state["status_code"] == SUCCESS:
                return state.get("metadata") or {}
            text = state.get("err") or f"the operation ended as {state.get('status')}"
            raise error_for(text, status=int(state.get("err_code") or FAILURE), what=what, names=client.names)
        client.deadline.sleep(FIRST_PAUSE)  # a wait that answers at once must not become a flood
    return {}


def _state(client: Client, path: str, what: str) -> dict[str, Any]:
    """The operation after at most one slice of waiting."""
    seconds = max(1, min(WAIT_SLICE, int(client.deadline.remaining())))
    try:
        return client.wait_operation(path, seconds).metadata
    except WaitEnded as told:
        try:
            return client.operation(path).metadata
        except errors.NotFound:
            if "deadline exceeded" in told.brief:
                raise errors.OperationNotFound(f"{what}: the server no longer knows the operation") from None
            raise error_for(told.brief, status=FAILURE, what=what, names=client.names) from None
    except errors.NotFound:
        raise errors.OperationNotFound(f"{what}: the server no longer knows the operation") from None


def await_pending(client: Client, name: str, what: str) -> None:
    """Wait for whatever operation on the object the server is still at, however it ends."""
    for operation, urls in pending(client):
        if name and any(url.partition("?")[0].endswith(f"/{name}") for url in urls):
            try:
                wait(client, operation, what=what)
            except errors.ServerError as failure:
                client.log.warn(str(failure))


def pending(client: Client) -> Iterator[tuple[Response, list[str]]]:
    """What the server is still at: each operation as the reply that `wait` takes, and the URLs of what it works on."""
    for status, group in (client.operations().metadata or {}).items():
        for operation in group:
            # A token is no work: LXD keeps that of an image which another cluster member fetched.
            if status not in FINAL and operation.get("class") != "token":
                yield Response(None, f"/1.0/operations/{operation['id']}", ""), _objects(operation)


def _objects(operation: dict[str, Any]) -> list[str]:
    """LXD 6.8 and later have no resources, but one URL in the metadata."""
    urls = [url for group in (operation.get("resources") or {}).values() for url in group]
    return [*urls, (operation.get("metadata") or {}).get("entity_url") or ""]


def exists(read: Callable[[], Response]) -> bool:
    """Whether what `read` asks for is there."""
    try:
        read()
    except errors.NotFound:
        return False
    return True
