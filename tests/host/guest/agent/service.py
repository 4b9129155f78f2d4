"""Serve commands of the tests over HTTP. A connection without request receives the report."""

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


def commands(report: Callable[[], dict[str, Any]]) -> dict[str, Callable[..., Any]]:
    """Return functions by command. Their arguments are the parameters of the query, their result is sent as JSON."""
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
    """Open the listening socket and the power buttons. Connections and events wait from now on."""
    server = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=16)
    return server, open_power_buttons()


def serve(server: socket.socket, buttons: list[int], report: Callable[[], dict[str, Any]]) -> None:
    """Serve connections sequentially and power off when a button is pressed. Does not return."""
    table = commands(report)
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
        request = ""  # the client sends no request
    status, result = response(request, table)
    body = json.dumps(result).encode()
    head = f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def response(request: str, table: dict[str, Callable[..., Any]]) -> tuple[str, Any]:
    """Run the command in the first line of a request. Return HTTP status and result."""
    words = request.split(maxsplit=2)
    url = urlsplit(words[1] if len(words) > 1 else "/report")
    function = table.get(url.path.strip("/") or "report")
    if not function:
        return "404 Not Found", {"error": f"unknown command {url.path}; the commands are {sorted(table)}"}
    try:
        disks.settle()
        return "200 OK", function(**dict(parse_qsl(url.query)))
    except Exception as error:  # noqa: BLE001  the test gets every error in the response
        return "400 Bad Request", {"error": f"{type(error).__name__}: {error}"}


def halt(command: str) -> str:
    """Power off or reboot in half a second, after the response is sent."""
    subprocess.Popen(["sh", "-c", f"sync; sleep 0.5; {command} -f"])
    return command


def open_power_buttons() -> list[int]:
    """Return open descriptors of the input devices of ACPI power buttons."""
    descriptors = []
    for name in os.listdir("/sys/class/input"):
        if name.startswith("event"):
            with pathlib.Path(f"/sys/class/input/{name}/device/name").open(encoding="utf-8") as file:
                if "Power Button" in file.read():
                    descriptors.append(os.open(f"/dev/input/{name}", os.O_RDONLY))
    return descriptors


def power_pressed(events: bytes) -> bool:
    return any(
        kind == EV_KEY and code == KEY_POWER and value == 1
        for _, _, kind, code, value in INPUT_EVENT.iter_unpack(events)
    )
