"""Captures: one file per call, which can be replayed later, for a bug report or as a fixture (docs/how-to/capture.md).

The file contains the request of BOSH, the configuration, every exchange with the server, the response, and the kind and
version of the server. It contains no secrets.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from bosh_lxd_cpi import __version__
from bosh_lxd_cpi.config.schema import Config
from bosh_lxd_cpi.lxd.transport import Transport
from bosh_lxd_cpi.protocol import rpc
from bosh_lxd_cpi.protocol.rpc import Request
from bosh_lxd_cpi.recording.document import FORMAT, format_document
from bosh_lxd_cpi.recording.recorder import Recorder, RecordingClock
from bosh_lxd_cpi.recording.redaction import Redactor
from bosh_lxd_cpi.runtime.clock import Clock
from bosh_lxd_cpi.runtime.files import write_file
from bosh_lxd_cpi.runtime.log import Log

DESCRIBE_TIMEOUT = 5.0
"""Seconds for the request that a capture adds to learn the server's version."""

CERTIFICATES = ("tls_client_cert", "tls_client_key", "tls_server_cert", "tls_ca_cert")


def call(
    act: Callable[[Clock, Transport], Any],
    request: Request,
    *,
    config: Config,
    directory: str,
    clock: Clock,
    transport: Transport,
    log: Log,
) -> Any:
    """Return the result of `act`, and write a capture of the call into a directory.

    `act` gets a clock and a transport that record. If the capture cannot be written, the call logs a warning and
    continues. Raises what `act` raises.
    """
    start, recording_clock, recorder = clock.time(), RecordingClock(clock), Recorder(transport, clock)
    result: Any = None
    failure: BaseException | None = None
    try:
        result = act(recording_clock, recorder)
        return result
    except BaseException as error:
        failure = error
        raise
    finally:
        with _warning_on_error(log):
            secrets = (*config.secrets(), *(getattr(config.server, name) for name in CERTIFICATES))
            redactor = Redactor((request.arguments, request.context), secrets)
            response = rpc.failure(failure, redact=redactor.redact_string) if failure else rpc.success(result)
            interactions = recorder.interactions(redactor)
            stdin = {"method": request.method, "arguments": request.arguments, "context": request.context}
            record = {
                "at": _utc(start),
                "duration_ms": round((clock.time() - start) * 1000),
                "config": redactor.redact(config_document(config)),
                "stdin": redactor.redact(stdin),
                "stdout": redactor.redact(json.loads(response)),
                "clock": {"times": recording_clock.times, "random": recording_clock.random},
                "interactions": interactions,
            }
            server = _server_description(interactions, transport, project=config.server.project_name)
            recorded = {"at": _utc(start), "cpi": __version__, "server": server}
            document = {"format": FORMAT, "recorded": recorded, "synthetic": None, "calls": [record]}
            path = os.path.join(directory, _file_name(log.redact(f"{request.method}-{request.id}"), start))
            os.makedirs(directory, mode=0o700, exist_ok=True)
            write_file(path, format_document(document), mode=0o600)
            log.debug(f"wrote a capture of this call to {path}")


@contextlib.contextmanager
def _warning_on_error(log: Log) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  a capture can fail in any way, and the call has a result of its own
        log.warn(f"cannot write a capture of this call: {type(error).__name__}: {error}")


def config_document(config: Config) -> dict[str, Any]:
    """Return the properties that differ from their defaults, as in a configuration file, without certificates."""
    placeholders: dict[str, Any] = {name: "***" for name in CERTIFICATES if getattr(config.server, name)}
    config = config._replace(server=config.server._replace(**placeholders))
    document = {}
    for name, value in config._asdict().items():
        if name in {"capture", "throttle_config"} or value in (Config._field_defaults[name], ()):
            continue
        if hasattr(value, "_asdict"):
            section = {key: item for key, item in value._asdict().items() if item != value._field_defaults[key]}
            document.update({name: section} if section else {})
        else:
            document[name] = value
    return document


def _server_description(interactions: list[dict[str, Any]], transport: Transport, *, project: str) -> dict[str, Any]:
    """Return the description from a recorded GET /1.0, or from a new one if the server responded at all."""
    documents = [
        interaction["response"]["body"]["metadata"]
        for interaction in interactions
        if interaction["request"]["path"] == "/1.0" and interaction.get("response", {}).get("status") == 200
    ]
    if not documents and any("response" in interaction for interaction in interactions):
        with contextlib.suppress(Exception):  # the capture may be about a server that fails
            response = transport.request("GET", "/1.0", query={"project": project}, timeout=DESCRIBE_TIMEOUT)
            documents = [json.loads(response.body)["metadata"]]
    return describe(documents[0]) if documents else {}


def describe(server: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a server for a capture. `server` is the metadata of GET /1.0."""
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


def _file_name(call: str, start: float) -> str:
    """Return a name such as 20260131T100000Z-create_vm-cpi-123456-1a2b3c4d.json."""
    label = re.sub(r"[^A-Za-z0-9_-]", "-", call)[:100]
    timestamp = _utc(start).replace(":", "").replace("-", "")
    return f"{timestamp}-{label}-{os.urandom(4).hex()}.json"


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
