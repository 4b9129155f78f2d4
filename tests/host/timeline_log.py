"""Record the log that docs/how-to/timeline.md and the tests of `util timeline` read: tests/fixtures/timeline.log.

    python3 -m tests.host.timeline_log > tests/fixtures/timeline.log

Workers create and delete VMs with disks on a test host under a throttle limit. Each call is written in the format of
the debug log of a task (bosh-director, external_cpi.rb).
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.host import server
from tests.host.director import Director, configuration, environment, manual_network
from tests.host.tiny_stemcell import STEMCELL, VM, stemcell_image

WORKERS, LIMIT = 6, 3
output = threading.Lock()


def write(thread: str, request_id: str, text: str) -> None:
    """Write one record of the debug log."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
    with output:
        print(f"D, [{now} #7] [{thread}] DEBUG -- DirectorJobRunner: [external-cpi] [{request_id}] {text}", flush=True)


def call(director: Director, thread: str, method: str, *arguments: Any) -> Any:
    """Make a call and write its request and response."""
    request_id = f"cpi-{uuid.uuid4().int % 900000 + 100000}"
    director.context = {"request_id": request_id}
    request = {"method": method, "arguments": "<redacted>", "context": {"request_id": request_id}}
    write(thread, request_id, f"request: {json.dumps(request)} with command: /var/vcap/jobs/lxd_cpi/bin/cpi")
    result = director.call(method, *arguments)
    response = json.dumps(director.last.response)
    write(thread, request_id, f"response: {response}, err: {director.last.stderr}, exit_status: 0")
    return result


def work(director: Director, stemcell: str, number: int) -> None:
    """Create a VM with a disk, and delete both."""
    thread = f"create_missing_vm(web/{uuid.UUID(int=number + 1)} ({number})/{WORKERS})"
    network = {"default": manual_network(f"10.245.0.{20 + number}")}
    vm, _ = call(director, thread, "create_vm", f"agent-{number}", stemcell, VM, network, [], environment())
    call(director, thread, "set_vm_metadata", vm, {"job": "web", "index": str(number)})
    disk = call(director, thread, "create_disk", 64, {}, vm)
    call(director, thread, "attach_disk", vm, disk)
    call(director, thread, "detach_disk", vm, disk)
    call(director, thread, "delete_vm", vm)
    call(director, thread, "delete_disk", disk)


def main() -> None:
    with tempfile.TemporaryDirectory() as name, server.temporary_host("incus", name="timeline") as facts:
        folder = Path(name)
        throttle = {"enabled": True, "path": str(folder / "slots"), "limit": LIMIT}
        config = {**configuration(facts), "throttle_config": throttle}

        def director(number: int) -> Director:
            own = folder / str(number)
            own.mkdir()
            return Director(config, own, prefix=server.netns_command(facts.name))

        first = director(WORKERS)
        stemcell = first.call("create_stemcell", str(stemcell_image(folder)), STEMCELL)
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda number: work(director(number), stemcell, number), range(WORKERS)))
        first.call("delete_stemcell", stemcell)


if __name__ == "__main__":
    sys.exit(main())
