"""Captures: one file a call that can be played back later, for a bug report or as a fixture (docs/capture.md).

The file holds what BOSH asked, the configuration it was asked under, every exchange with the server, the answer, and
where all this was: enough to run the call again without a server, and no secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from bosh_lxd_cpi import __version__
from bosh_lxd_cpi.config.schema import Config
from bosh_lxd_cpi.lxd.transport import Transport
from bosh_lxd_cpi.protocol import rpc
from bosh_lxd_cpi.protocol.rpc import Request
from bosh_lxd_cpi.recording.cassette import Recorder, RecordingClock
from bosh_lxd_cpi.recording.redaction import Redactor
from bosh_lxd_cpi.runtime.clock import Clock
from bosh_lxd_cpi.runtime.log import Log

FORMAT = 1
LOOK_SECONDS = 5.0
"""For the one request that a capture adds, to say which server this was."""

CERTIFICATES = ("tls_client_cert", "tls_client_key", "tls_server_cert", "tls_ca_cert")


def call(
    act: Callable[[Clock, Transport], Any],
    request: Request,
    *,
    settings: Config,
    directory: str,
    clock: Clock,
    transport: Transport,
    log: Log,
) -> Any:
    """Do `act` and write a capture of it into the directory. Whatever befalls the capture, it never fails the call."""
    began, watch, recorder = clock.time(), RecordingClock(clock), Recorder(transport, clock)
    answer = b"null"
    try:
        result = act(watch, recorder)
        answer = rpc.success(result)
        return result
    except BaseException as failure:
        answer = rpc.failure(failure)
        raise
    finally:
        with _nothing_but_a_warning(log):
            secrets = (*settings.secrets(), *(getattr(settings.server, name) for name in CERTIFICATES))
            redactor = Redactor((request.arguments, request.context), secrets)
            interactions = recorder.interactions(redactor)
            stdin = {"method": request.method, "arguments": request.arguments, "context": request.context}
            one = {
                "at": _utc(began),
                "duration_ms": round((clock.time() - began) * 1000),
                "config": redactor.document(tree(settings)),
                "stdin": redactor.document(stdin),
                "stdout": redactor.document(json.loads(answer)),
                "clock": {"times": watch.times, "random": watch.random},
                "interactions": interactions,
            }
            recorded = {"at": _utc(began), "cpi": __version__, "server": _server(interactions, transport, settings)}
            document = {"format": FORMAT, "recorded": recorded, "synthetic": None, "calls": [one]}
            log.debug(f"captured as {_write(directory, document, name=_name(request, began))}")


@contextlib.contextmanager
def _nothing_but_a_warning(log: Log) -> Iterator[None]:
    try:
        yield
    except Exception as failure:  # noqa: BLE001  a capture may fail in any way, the call has its own result
        log.warn(f"no capture of this call: {type(failure).__name__}: {failure}")


def tree(settings: Config) -> dict[str, Any]:
    """The properties that are not as they would be anyway, as a configuration file has them, without certificates."""
    present = {name: "***" for name in CERTIFICATES if getattr(settings.server, name)}
    settings = settings._replace(server=settings.server._replace(**present))
    found = {}
    for name, value in settings._asdict().items():
        if hasattr(value, "_asdict"):
            value = {key: item for key, item in value._asdict().items() if item != value._field_defaults[key]}
        if value != Config._field_defaults[name] and name not in ("capture", "throttle_config"):
            found[name] = value
    return {name: value for name, value in found.items() if value not in ({}, ())}


def _server(interactions: list[dict[str, Any]], transport: Transport, settings: Config) -> dict[str, Any]:
    """What the server says it is: in the recording, or asked now if it answered at all."""
    known = [
        one["response"]["body"]["metadata"]
        for one in interactions
        if one["request"]["path"] == "/1.0" and one.get("response", {}).get("status") == 200
    ]
    if not known and any("response" in one for one in interactions):
        query = {"project": settings.server.project_name}
        with contextlib.suppress(Exception):  # it may be what the capture is about
            known = [json.loads(transport.request("GET", "/1.0", query=query, timeout=LOOK_SECONDS).body)["metadata"]]
    return describe(known[0]) if known else {}


def describe(server: dict[str, Any]) -> dict[str, Any]:
    """Which server a capture is of, from the metadata of GET /1.0."""
    environment, extensions = server.get("environment") or {}, server.get("api_extensions") or []
    return {
        "kind": environment.get("server", ""),
        "version": environment.get("server_version", ""),
        "api_extensions": len(extensions),
        "api_extensions_sha256": hashlib.sha256("\n".join(sorted(extensions)).encode()).hexdigest(),
        "clustered": bool(environment.get("server_clustered")),
        "storage_driver": environment.get("storage", ""),
        "instance_driver": f"{environment.get('driver', '')} {environment.get('driver_version', '')}".strip(),
    }


def _name(request: Request, began: float) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", f"{request.method}-{request.id}")[:100]
    return f"{_utc(began).replace(':', '').replace('-', '')}-{plain}"


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _write(directory: str, document: dict[str, Any], *, name: str) -> str:
    """Write the file, whole or not at all, for its owner only; answers its path."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=directory, prefix=".", suffix=".part")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text(document))
        path = os.path.join(directory, f"{name}-{os.path.basename(unfinished)[1:-5]}.json")
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise
    return path


LIST_OF_TEXTS = re.compile(r'\[\s+("[^"\n]*"(?:,\s+"[^"\n]*")*)\s+\]')


def text(document: dict[str, Any]) -> str:
    """The document as JSON to be read by people: a key a line, but a list of plain texts on one."""
    indented = json.dumps(document, indent=1, ensure_ascii=False)
    return LIST_OF_TEXTS.sub(lambda found: "[" + re.sub(r'",\n\s+', '", ', found[1]) + "]", indented) + "\n"
