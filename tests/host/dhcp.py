"""A DHCP client on a bridge of a test host, as another machine that is connected to the bridge."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tests.host import server

MAC = "02:00:00:00:00:99"
DISCOVER = """
import socket, struct, sys
mac, requested = bytes.fromhex(sys.argv[2].replace(":", "")), socket.inet_aton(sys.argv[3])
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())
client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
client.settimeout(2)
client.bind(("", 68))
head = struct.pack("!BBBBIHH16x16s64x128x", 1, 1, 6, 0, 0x626f7368, 0, 0x8000, mac)
options = bytes([53, 1, 1, 50, 4]) + requested + bytes([255])
for _ in range(10):
    client.sendto(head + bytes([99, 130, 83, 99]) + options, ("255.255.255.255", 67))
    try:
        print(socket.inet_ntoa(client.recv(1500)[16:20]))
        sys.exit(0)
    except TimeoutError:
        pass
sys.exit("no offer")
"""


def offer(host: str, bridge: str, *, request: str) -> str:
    """Return the address that the DHCP server of a bridge offers to a client that requests an address."""
    namespace = f"{host}-client"

    def ip(*words: str, prefix: Sequence[str] = ()) -> None:
        subprocess.run([*prefix, "ip", *words], check=True)

    ip("netns", "add", namespace)
    try:
        client = ("peer", "name", "client0", "address", MAC, "netns", namespace)
        ip("link", "add", "client1", "master", bridge, "type", "veth", *client, prefix=server.netns_command(host))
        ip("link", "set", "client1", "up", prefix=server.netns_command(host))
        ip("-n", namespace, "link", "set", "client0", "up")
        command = ["ip", "netns", "exec", namespace, sys.executable, "-I", "-c", DISCOVER, "client0", MAC, request]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    finally:
        ip("-n", namespace, "link", "delete", "client0")  # deleting the namespace removes it later
        ip("netns", "delete", namespace)
