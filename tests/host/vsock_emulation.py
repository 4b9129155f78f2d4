"""Run a daemon on a kernel without vhost_vsock and without the right to raise limits.

LXD and Incus do not run virtual machines on a kernel without vhost_vsock, although BOSH VMs do not use vsock. A seccomp
filter, which all children inherit, replaces the result of these system calls:

* two vsock ioctls                   succeed on the regular files /dev/vhost-vsock and /dev/vsock
* prlimit64(new limit), setrlimit    succeed (a container may lack CAP_SYS_RESOURCE)
* bind() of a 16-byte address        notifies the init process: it replaces the vsock address of the host by "any"

The numbers are those of x86-64 and of the kernel's seccomp.h, filter.h, audit.h, vhost.h and vm_sockets.h.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import os
import pathlib
import signal
import socket
import struct
import sys
from collections.abc import Sequence

LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, SUCCEED, NOTIFY = 0x7FFF0000, 0x00050000, 0x7FC00000
X86_64 = 0xC000003E
IOCTL, BIND, SETRLIMIT, PRLIMIT64, SECCOMP = 16, 49, 160, 302, 317
SET_MODE_FILTER, NEW_LISTENER = 1, 8
SYSCALL, ARCHITECTURE, SECOND_ARGUMENT, THIRD_ARGUMENT = 0, 4, 24, 32
VHOST_VSOCK_SET_GUEST_CID, VM_SOCKETS_GET_LOCAL_CID = 0x4008AF60, 0x7B9
RECEIVE, SEND, CONTINUE = 0xC0502100, 0xC0182101, 1
AF_VSOCK, ANY_CID = 40, 0xFFFFFFFF


def assemble(program: Sequence[str | tuple]) -> bytes:
    """Assemble classic BPF.

    A row is (operation, operand[, label if true, label if false]), where None is the next row, or a line "label:".
    """
    labels: dict[str | None, int] = {}
    rows: list[tuple] = []
    for line in program:
        if isinstance(line, str):
            labels[line.rstrip(":")] = len(rows)
        else:
            rows.append(line)
    code = b""
    for number, (operation, operand, *targets) in enumerate(rows, start=1):
        true, false = (labels[target] - number if target else 0 for target in targets or (None, None))
        code += struct.pack("HBBI", operation, true, false, operand)
    return code


FILTER = assemble(
    [
        (LOAD, ARCHITECTURE),
        (JUMP_IF_EQUAL, X86_64, None, "allow"),
        (LOAD, SYSCALL),
        (JUMP_IF_EQUAL, IOCTL, "ioctl", None),
        (JUMP_IF_EQUAL, BIND, "bind", None),
        (JUMP_IF_EQUAL, PRLIMIT64, "prlimit64", None),
        (JUMP_IF_EQUAL, SETRLIMIT, "succeed", "allow"),
        "ioctl:",
        (LOAD, SECOND_ARGUMENT),
        (JUMP_IF_EQUAL, VHOST_VSOCK_SET_GUEST_CID, "succeed", None),
        (JUMP_IF_EQUAL, VM_SOCKETS_GET_LOCAL_CID, "succeed", "allow"),
        "bind:",
        (LOAD, THIRD_ARGUMENT),
        (JUMP_IF_EQUAL, 16, "notify", "allow"),
        "prlimit64:",
        (LOAD, THIRD_ARGUMENT),
        (JUMP_IF_EQUAL, 0, "allow", "succeed"),
        "succeed:",
        (RETURN, SUCCEED),
        "notify:",
        (RETURN, NOTIFY),
        "allow:",
        (RETURN, ALLOW),
    ]
)


def launch(command: Sequence[str], environment: dict[str, str]) -> tuple[int, int]:
    """Start a command with the filter. Return its process id and the descriptor for handle()."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.setsid()
            listener = _install_filter()
            theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
            os.close(listener)
            os.execve(command[0], list(command), environment)
        except OSError as error:
            print(f"{command[0]}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(127)
    theirs.close()
    with ours:
        ancillary = ours.recvmsg(1, socket.CMSG_LEN(4))[1]
    if not ancillary:
        raise OSError("the kernel rejected the seccomp filter")
    return pid, array.array("i", ancillary[0][2])[0]


def _install_filter() -> int:
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(FILTER, len(FILTER))
    program = Program(len(FILTER) // 8, ctypes.addressof(code))
    listener = libc.syscall(SECCOMP, SET_MODE_FILTER, NEW_LISTENER, ctypes.byref(program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def handle(listener: int) -> None:
    """Handle one bind(): replace a vsock address in the memory of the process, then continue the call."""
    request = bytearray(80)
    with contextlib.suppress(OSError):  # the process may have ended
        fcntl.ioctl(listener, RECEIVE, request, True)
        number, pid, _, _, _, _, _, address = struct.unpack_from("<QIIiIQQQ", request)
        with contextlib.suppress(OSError), pathlib.Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(address)
            if struct.unpack("<H", memory.read(2))[0] == AF_VSOCK:
                memory.seek(address + 8)
                memory.write(struct.pack("<I", ANY_CID))
        fcntl.ioctl(listener, SEND, bytearray(struct.pack("<QqiI", number, 0, 0, CONTINUE)), True)
