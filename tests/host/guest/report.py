"""Read the report of a guest from its console, or send commands to the guest over TCP.

The report is a JSON object, see `report` in tests/host/guest/agent/__main__.py. Over TCP it is always current.
`netns_command` is the prefix that runs a command in the network of the server, for example
["ip", "netns", "exec", "bosh-incus"].
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

# Runs in the network of the server. It prints the response. The exit status is 2 if there is no response in time.
CLIENT = """
import sys, time, urllib.error, urllib.request
url, timeout, retry_seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
end = time.monotonic() + retry_seconds
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
    """The guest returned an error."""


class Unreachable(Exception):
    """There was no response from the address in time."""


def from_console(text: str) -> dict[str, Any]:
    """Return the last complete report in a console log. Raises LookupError if there is none."""
    reports = REPORT.findall(text.replace("\r", ""))
    if not reports:
        raise LookupError(f"no report on the console, which ends with: {text[-500:]!r}")
    return json.loads(reports[-1])


def fetch(address: str, *, netns_command: Sequence[str], timeout: float = 10) -> dict[str, Any]:
    """Return the current report. Raises Unreachable if the guest does not respond within `timeout` seconds."""
    return request(address, "report", netns_command=netns_command, timeout=timeout)


def request(
    address: str,
    name: str,
    *,
    netns_command: Sequence[str],
    timeout: float = 10,
    retry_seconds: float = 0,
    **parameters: str,
) -> Any:
    """Send a command to the guest and return its result. Raises GuestError and Unreachable.

    The commands are mark(device, text), which writes text to the start of a disk; read(device), which returns this
    text; size(device) in bytes; resolve(path, cid), which returns the device of a disk hint by the rules of the BOSH
    agent; reboot() and poweroff(). Failed connections are repeated for `retry_seconds`.
    """
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{PORT}/{name}?{urlencode(parameters)}"
    command = [*netns_command, sys.executable, "-I", "-c", CLIENT, url, str(timeout), str(retry_seconds)]
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
    """Return the first report within `seconds` whose boot id is not `not_boot`. Raises Unreachable.

    `progress` is called about every five seconds with a line of text.
    """
    start = time.monotonic()
    while True:
        try:
            report = request(address, "report", netns_command=netns_command, timeout=5, retry_seconds=5)
            if report["boot_id"] != not_boot:
                return report
            state = f"the guest did not reboot since boot {not_boot}"
            time.sleep(0.2)
        except Unreachable as error:
            state = str(error)
        waited = time.monotonic() - start
        if waited > seconds:
            raise Unreachable(f"no report from {address} in {waited:.0f} s: {state}")
        progress(f"waiting for {address}, {waited:.0f} s: {state}")
