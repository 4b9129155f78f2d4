"""Ask a guest what it sees: from its console, or over TCP out of the network namespace its server lives in.

The report is one JSON object; `tests/host/guest/agent/__main__.py` composes it.  Over TCP it is fresh
every time, so a disk attached or detached since the last one shows.  `netns_command` is what runs a
command where the guest can be reached, for instance ["ip", "netns", "exec", "th-incus"].
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

PORT = 8080
REPORT = re.compile(r"GUEST-REPORT-BEGIN\s+(\{.*?\})\s+GUEST-REPORT-END", re.DOTALL)

# Runs at the other end of netns_command: the answer on stdout; status 2 when there was none within so many seconds.
CLIENT = """
import sys, time, urllib.error, urllib.request
url, timeout, patience = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
end = time.monotonic() + patience
while True:
    try:
        sys.stdout.buffer.write(urllib.request.urlopen(url, timeout=timeout).read())
        sys.exit(0)
    except urllib.error.HTTPError as error:
        sys.stdout.buffer.write(error.read())
        sys.exit(1)
    except OSError as error:
        if time.monotonic() > end:
            print(error, file=sys.stderr)
            sys.exit(2)
        time.sleep(0.2)
"""


class GuestError(Exception):
    """The guest answered that it could not do what it was asked."""


class Unreachable(Exception):
    """Nothing answered at that address in time."""


def from_console(text: str) -> dict[str, Any]:
    """The last whole report in a console log; raises LookupError when there is none."""
    found = REPORT.findall(text.replace("\r", ""))
    if not found:
        raise LookupError(f"no report on the console, which ends with: {text[-500:]!r}")
    return json.loads(found[-1])


def fetch(address: str, *, netns_command: Sequence[str], timeout: float = 10) -> dict[str, Any]:
    """A fresh report; raises Unreachable when the guest does not answer within `timeout` seconds."""
    return request(address, "report", netns_command=netns_command, timeout=timeout)


def request(
    address: str,
    name: str,
    *,
    netns_command: Sequence[str],
    timeout: float = 10,
    patience: float = 0,
    **parameters: str,
) -> Any:
    """What the guest answers to a verb; raises GuestError when it complains, Unreachable when it is silent.

    mark(device, text): write text at the start of the disk; read(device): the text there; size(device): bytes;
    resolve(path, cid): the device behind a disk hint, found by the BOSH agent's rules; reboot(); poweroff().
    Connections are tried again for `patience` seconds.
    """
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{PORT}/{name}?{urlencode(parameters)}"
    command = [*netns_command, sys.executable, "-I", "-c", CLIENT, url, str(timeout), str(patience)]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if result.returncode == 0:
        return json.loads(result.stdout)
    if result.returncode == 1 and result.stdout:
        raise GuestError(json.loads(result.stdout)["error"])
    raise Unreachable(f"{url}: {result.stderr.strip()[-500:]}")


def wait_for_report(
    address: str,
    *,
    netns_command: Sequence[str],
    seconds: float = 120,
    not_boot: str = "",
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The first report within `seconds`, of a boot other than the one with id `not_boot`; raises Unreachable.

    `progress` is called every five seconds or so with a line that says how long it has been.
    """
    start = time.monotonic()
    while True:
        try:
            report = request(address, "report", netns_command=netns_command, timeout=5, patience=5)
            if report["boot_id"] != not_boot:
                return report
            state = f"still up since boot {not_boot}"
            time.sleep(0.2)
        except Unreachable as error:
            state = str(error)
        waited = time.monotonic() - start
        if waited > seconds:
            raise Unreachable(f"no report from {address} in {waited:.0f} s: {state}")
        progress(f"waiting for {address}, {waited:.0f} s: {state}")
