"""Answer tests over TCP: every connection gets a fresh report, or what the verb in its request line asks for."""

from __future__ import annotations

import json
import os
import pathlib
import select
import socket
import struct
import subprocess
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from . import disks

PORT = 8080
INPUT_EVENT = struct.Struct("llHHi")
EV_KEY, KEY_POWER = 1, 116


def verbs(report: Callable[[], dict[str, Any]]) -> dict[str, Callable[..., Any]]:
    """Verb -> function of the query's parameters; what it returns is sent as JSON."""
    return {
        "report": report,
        "mark": disks.mark,
        "read": disks.read,
        "size": disks.size,
        "resolve": lambda path, cid="": disks.resolve(path, cid=cid, seconds=3),
        "reboot": lambda: halt("reboot"),
        "poweroff": lambda: halt("poweroff"),
    }


def listen() -> tuple[socket.socket, list[int]]:
    """The listening socket and the power buttons, open: from now on nothing is lost."""
    server = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=16)
    return server, open_power_buttons()


def serve(server: socket.socket, buttons: list[int], report: Callable[[], dict[str, Any]]) -> None:
    """Answer connections one after the other and obey the power buttons, for ever."""
    table = verbs(report)
    while True:
        ready, _, _ = select.select([server, *buttons], [], [])
        for button in buttons:
            if button in ready and power_pressed(os.read(button, 64 * INPUT_EVENT.size)):
                halt("poweroff")
        if server in ready:
            connection, _ = server.accept()
            with connection:
                try:
                    handle(connection, table)
                except OSError as error:
                    print(f"connection lost: {error}")


def handle(connection: socket.socket, table: dict[str, Callable[..., Any]]) -> None:
    connection.settimeout(2)
    try:
        request = connection.recv(65536).decode("latin-1")
    except TimeoutError:
        request = ""  # a bare connection says nothing and wants the report
    status, answer = reply(request, table)
    body = json.dumps(answer).encode()
    head = f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def reply(request: str, table: dict[str, Callable[..., Any]]) -> tuple[str, Any]:
    """HTTP status and JSON answer for a request's text; only its first line counts."""
    words = request.split(maxsplit=2)
    url = urlsplit(words[1] if len(words) > 1 else "/report")
    verb = table.get(url.path.strip("/") or "report")
    if not verb:
        return "404 Not Found", {"error": f"no such verb: {url.path}; there are {sorted(table)}"}
    try:
        disks.settle()
        return "200 OK", verb(**dict(parse_qsl(url.query)))
    except Exception as error:  # noqa: BLE001  the test gets every error in the response
        return "400 Bad Request", {"error": f"{type(error).__name__}: {error}"}


def halt(command: str) -> str:
    """Power off or reboot in half a second: time enough for the answer to leave."""
    subprocess.Popen(["sh", "-c", f"sync; sleep 0.5; {command} -f"])
    return command


def open_power_buttons() -> list[int]:
    """Open descriptors of the ACPI power buttons' input devices."""
    found = []
    for name in os.listdir("/sys/class/input"):
        if name.startswith("event"):
            with pathlib.Path(f"/sys/class/input/{name}/device/name").open(encoding="utf-8") as file:
                if "Power Button" in file.read():
                    found.append(os.open(f"/dev/input/{name}", os.O_RDONLY))
    return found


def power_pressed(events: bytes) -> bool:
    return any(
        kind == EV_KEY and code == KEY_POWER and value == 1
        for _, _, kind, code, value in INPUT_EVENT.iter_unpack(events)
    )
