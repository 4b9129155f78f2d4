"""Init process of a test host: mounts its file system and runs the daemon.

Usage: host_init.py KIND TREE STATE, in new mount, network, process, UTS and IPC namespaces.

SIGHUP starts the daemon if it does not run. /run/daemon.pid contains its process id while it runs. The daemon is not
restarted automatically. Its virtual machines and dnsmasq survive its end, as on a real host. When this process ends,
the kernel kills them all and removes every mount.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys

from tests.host import vsock_emulation
from tests.host.kinds import KINDS, Kind

PATH = "/run/shims:/usr/sbin:/usr/bin:/sbin:/bin"
PID_FILE = pathlib.Path("/run/daemon.pid")
# /dev contains /dev/pts of this machine only. kvm and the vsock devices are regular files, which the daemon looks for.
# pivot_root instead of chroot: the daemon enters its mount namespace again, which would leave a chroot.
FILE_SYSTEM = r"""
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$STATE/root"
cd "$STATE/root"
mkdir upper work all
mount -t overlay -o "lowerdir=$TREE,upperdir=upper,workdir=work" overlay all
cd all
mkdir -p ".$VAR" ".$LOG" .old
mount --bind "$STATE/var" ".$VAR"
mount --bind "$STATE/log" ".$LOG"
mount --rbind /tmp tmp
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
cp -r "$SHIMS" run/shims
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/net dev/pts dev/shm
node() { mknod -m 666 "dev/$1" "${4-c}" "$2" "$3"; }
node null 1 3; node zero 1 5; node full 1 7; node random 1 8; node urandom 1 9; node tty 5 0
node net/tun 10 200; node fuse 10 229; node loop-control 10 237
for number in $(seq 0 255); do node "loop$number" 7 "$number" b; done
mount --rbind /dev/pts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
touch dev/kvm dev/vhost-vsock dev/vsock
pivot_root . .old
cd /
umount -l /.old
"""


def build_file_system(kind: Kind, tree: str, state: str) -> None:
    """Mount the root file system of the host and make it the root of this namespace."""
    shims = pathlib.Path(__file__).resolve().parent / "shims"
    variables = {"TREE": tree, "STATE": state, "VAR": kind.var, "LOG": kind.log, "SHIMS": str(shims)}
    os.chdir("/")
    subprocess.run(["bash", "-ec", FILE_SYSTEM], env={**os.environ, **variables}, check=True)


def run(kind: Kind) -> None:
    """Run the daemon on request, handle its system calls and reap processes. Never returns."""
    writer, reader = socket.socketpair()
    for end in (writer, reader):
        end.setblocking(False)
    signal.set_wakeup_fd(reader.fileno())
    for number in (signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    poll = select.poll()
    poll.register(writer, select.POLLIN)
    daemon = None
    signal.raise_signal(signal.SIGHUP)
    while True:
        for descriptor, event in poll.poll():
            if event & select.POLLHUP:  # the last process with this filter ended
                poll.unregister(descriptor)
                os.close(descriptor)
            elif descriptor != writer.fileno():
                vsock_emulation.handle(descriptor)
            else:
                signals = writer.recv(4096)
                if daemon in reap():
                    daemon = None
                    PID_FILE.unlink()
                if signal.SIGHUP in signals and daemon is None:
                    daemon, listener = vsock_emulation.launch(kind.daemon, {"HOME": "/root", "PATH": PATH, **kind.env})
                    PID_FILE.write_text(str(daemon), encoding="utf-8")
                    poll.register(listener, select.POLLIN)


def reap() -> set[int]:
    """Return the process ids of all children and orphans that ended."""
    ended = set()
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            ended.add(pid)
    return ended


def main(name: str, tree: str, state: str) -> None:
    socket.sethostname(pathlib.Path(state).name)
    build_file_system(KINDS[name], tree, state)
    run(KINDS[name])


if __name__ == "__main__":
    main(*sys.argv[1:])
