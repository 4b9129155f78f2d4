"""Runs a change to its end: waits for the operation, and finds out what a lost response leaves open.

`/wait` responds differently in every line of servers, and some report an error after a time-out (docs/development/
lxd-api.md §2). So only a success is taken from it; everything else is read from the operation. The server deletes a
finished operation after five seconds and at every restart, so a 404 does not show the result.

Then the object shows whether a change was made. It does not show whether a creation is complete: the server writes the
database before the content. A daemon that is killed in between keeps an incomplete object (docs/development/lxd-api.md
§5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.client import WAIT_SLICE, Client
from bosh_lxd_cpi.lxd.envelope import Response, WaitEnded, error_for
from bosh_lxd_cpi.lxd.resources import Operation

SUCCESS, FAILURE = 200, 400
CHECK_SECONDS = 10
"""Pause between two checks of an object whose operation may never end."""
POLL_SECONDS = 0.1
"""Pause between two waits: a server that responds at once must not be flooded."""


def run_operation(
    client: Client,
    request: Callable[[], Response],
    *,
    what: str,
    name: str = "",
    pool: str = "",
    is_done: Callable[[], bool] | None = None,
    start_over: Callable[[], object] | None = None,
    is_over: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Send a change and wait for its end. Return the operation's metadata, empty if there was no operation.

    While another operation blocks it, the change is sent again under the client's retry policy, which starts again at
    the first loss. When the response or the operation is lost, this waits for operations on the object `name`. After
    that, `is_done` tells whether a change was made. A creation has `start_over` instead: unless such an operation
    succeeded, it deletes the object. Then the change is sent again. Without both the loss is raised. `what` names the
    change in errors, `pool` the storage pool in their hints. `is_over` is for operations that may never end: see
    `wait`.
    """
    is_lost = False
    attempts = client.retry.attempts(client.deadline)
    while True:
        attempt = next(attempts)
        try:
            return wait(client, request(), what=what, pool=pool, is_over=is_over)
        except (errors.NoResponse, errors.OperationNotFound, errors.AlreadyExists) as failure:
            name_is_taken = isinstance(failure, errors.AlreadyExists)
            if (is_done is None and start_over is None) or (name_is_taken and not is_lost):
                raise
            client.log.warn(f"{failure}; checking whether it was done")
            has_succeeded = wait_for_pending(client, name, what=what)
            if is_done() if is_done else has_succeeded:
                return {}
            if name_is_taken or (is_lost and attempt.is_last):
                raise
            if not is_lost:  # the operation may have run for longer than the policy's time
                is_lost, attempts = True, client.retry.attempts(client.deadline)
            if start_over:
                _delete_incomplete(start_over, name, what=what)
        except errors.PreconditionFailed:  # the first attempt may have changed the ETag
            if is_done is None or not is_done():
                raise
            return {}
        except errors.Busy as failure:
            if attempt.is_last:
                raise
            client.log.warn(f"{failure}; trying again")


def _delete_incomplete(delete: Callable[[], object], name: str, *, what: str) -> None:
    try:
        delete()
    except errors.ServerError as failure:
        if failure.transient:
            raise
        raise errors.ServerError(
            f"{what}: the server may have created {name} in part and cannot delete it: {failure.brief}",
            detail=failure.detail,
            code="incomplete",
        ) from failure


def wait(
    client: Client, response: Response, *, what: str, pool: str = "", is_over: Callable[[], bool] | None = None
) -> dict[str, Any]:
    """Wait for the operation of a response and return its metadata. Raises the error that the operation ended with.

    `is_over` is called every `CHECK_SECONDS` while the operation runs; true ends the wait.
    """
    if not response.operation:
        return {}
    try:
        return _wait(client, response.operation, what=what, pool=pool, is_over=is_over)
    except errors.DeadlineExceeded as failure:
        raise client.deadline.exceeded(f"{what}: the server's operation may still run") from failure
    except errors.MemberUnavailable as failure:
        if named := client.name_members(failure):
            raise named from failure
        raise


def _wait(
    client: Client, path: str, *, what: str, pool: str = "", is_over: Callable[[], bool] | None = None
) -> dict[str, Any]:
    fields = {"pool": pool} if pool else {}
    while True:
        operation = _poll(client, path, what, fields, seconds=CHECK_SECONDS if is_over else WAIT_SLICE)
        if operation.status_code == SUCCESS:
            return operation.metadata
        if operation.status_code > SUCCESS:
            text = operation.err or f"the operation ended with status {operation.status}"
            raise error_for(text, status=operation.err_code or FAILURE, what=what, fields=fields)
        if is_over and is_over():
            return {}
        client.deadline.sleep(POLL_SECONDS)


def _poll(client: Client, path: str, what: str, fields: dict[str, str], *, seconds: int) -> Operation:
    """Return the operation when it has ended or the seconds have passed."""
    seconds = max(1, min(seconds, int(client.deadline.remaining())))
    try:
        return client.wait_operation(path, seconds)
    except WaitEnded as ended:
        try:
            return client.operation(path)
        except errors.NotFound:
            if "deadline exceeded" in ended.brief:
                raise _not_found(what) from None
            raise error_for(ended.brief, status=FAILURE, what=what, fields=fields) from None
    except errors.NotFound:
        raise _not_found(what) from None


def _not_found(what: str) -> errors.OperationNotFound:
    return errors.OperationNotFound(f"{what}: the server no longer knows the operation")


def wait_for_pending(client: Client, name: str, *, what: str) -> bool:
    """Wait for every operation that the server still runs on the object `name`. Return whether all succeeded.

    If there is no such operation, return False.
    """
    results = []
    for operation in pending(client):
        if name and any(url.partition("?")[0].endswith(f"/{name}") for url in operation.object_urls):
            try:
                _wait(client, operation.path, what=what)
                results.append(True)
            except errors.ServerError as failure:
                client.log.warn(str(failure))
                results.append(False)
    return bool(results) and all(results)


def pending(client: Client) -> list[Operation]:
    """Return the operations that have not ended.

    A token is not work: LXD keeps the one of an image that another cluster member fetched.
    """
    return [
        operation
        for operation in client.operations()
        if operation.status_code < SUCCESS and operation.class_ != "token"
    ]


def exists(read: Callable[[], object]) -> bool:
    """Return whether the object that `read` reads exists."""
    try:
        read()
    except errors.NotFound:
        return False
    return True
