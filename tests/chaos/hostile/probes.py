"""Runs inside a job: tries one thing after another that no job may do, and prints what came of each.

Standard library only; it is handed over as the text of `python3 -c`. Each attempt answers whether it won.
The last line is a JSON object, name by name: `{"won": bool, "said": "..."}`.
"""

# ruff: noqa: PTH110, PTH123, PTH208 (paths as text: they are attacks)

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
#: The first packet may be lost, and comes again after a second.
CONNECT_S, PATIENCE_S = 2.0, 20.0
#: Whether it won, and what was said.
Came = tuple[bool, str]


def status(field: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return line.split()[1]
    raise LookupError(field)


def call(number: int, *arguments: int | bytes) -> Came:
    """A system call by its number on x86-64, in a child. It won unless the kernel forbade it: to be told
    that the arguments are wrong is to have got past the guard."""
    inside, outside = os.pipe()
    if (child := os.fork()) == 0:
        answer = LIBC.syscall(number, *arguments)
        os.write(outside, str(ctypes.get_errno() if answer < 0 else 0).encode())
        os._exit(0)
    os.waitpid(child, 0)
    code = int(os.read(inside, 20))
    os.close(inside)
    os.close(outside)
    return code not in (errno.EPERM, errno.EACCES, errno.ENOSYS), os.strerror(code)


def connects(address: str, within_s: float = CONNECT_S) -> Came:
    host, _, port = address.rpartition(":")
    with socket.socket() as client:
        client.settimeout(within_s)
        client.connect((host, int(port)))
    return True, "connected"


def writes(path: str) -> Came:
    with open(path, "wb") as file:
        file.write(b"1")
    return True, "written"


def gateway() -> str:
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        words = line.split()
        if words[1] == "00000000":
            return socket.inet_ntoa(bytes.fromhex(words[2])[::-1])
    raise LookupError("no gateway")


def sockets_of_the_host() -> Came:
    places = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock")
    found = [path for path in places if os.path.exists(path)]
    return bool(found), " ".join(found) or "none"


def processes_of_others() -> Came:
    names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in os.listdir("/proc") if pid.isdigit()}
    others = {name for name in names if ("docker" in name and name != "docker-init") or name == "postgres"}
    return bool(others) or len(names) > 4, " ".join(sorted(names))


def devices_of_the_host() -> Came:
    found = [path.name for path in Path("/dev").iterdir() if path.is_block_device()]
    found += [name for name in ("mem", "kmsg", "kvm", "fuse") if os.path.exists(f"/dev/{name}")]
    return bool(found), " ".join(found) or "none"


def capabilities() -> Came:
    held = {name: status(name) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    return any(int(bits, 16) for bits in held.values()), json.dumps(held)


def setuid_program() -> Came:
    """/rooted ends with its effective user, modulo 256: 0 is root."""
    ended = subprocess.run(["/rooted"], check=False).returncode
    return ended == 0, f"it ended with {ended}"


def becomes_root() -> Came:
    os.setuid(0)
    return True, "uid 0"


def raw_packets() -> Came:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    return True, "opened"


def pid_limit() -> Came:
    """What the cgroup says, where it can be seen; 0 stands for none."""
    for path in ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"):
        if os.path.exists(path):
            said = Path(path).read_text().strip()
            return said == "max", said
    return True, "not to be seen"


NEWUSER, NEWNS = 0x10000000, 0x00020000
KEY = (b"user", b"stolen", b"x", 1, -3)
ATTEMPTS: dict[str, Callable[[], Came]] = {
    "metadata address": lambda: connects(os.environ["METADATA"]),
    "address beside it": lambda: connects(os.environ["CONTROL"], PATIENCE_S),
    "service's API at the gateway": lambda: connects(f"{gateway()}:{os.environ['API_PORT']}"),
    "object store at the gateway": lambda: connects(f"{gateway()}:{os.environ['STORE_PORT']}"),
    "Postgres at the gateway": lambda: connects(f"{gateway()}:5432"),
    "Docker's port at the gateway": lambda: connects(f"{gateway()}:2375"),
    "a job of another project": lambda: connects(os.environ["NEIGHBOUR"]),
    "the engine's socket": sockets_of_the_host,
    "processes of the host": processes_of_others,
    "devices of the host": devices_of_the_host,
    "read-only volume": lambda: writes("/ro/x"),
    "/proc/sys": lambda: writes("/proc/sys/kernel/core_pattern"),
    "/proc/sysrq-trigger": lambda: writes("/proc/sysrq-trigger"),
    "/sys": lambda: writes("/sys/kernel/uevent_helper"),
    "cgroup": lambda: writes("/sys/fs/cgroup/release_agent"),
    "/etc/passwd": lambda: writes("/etc/passwd"),
    "capabilities": capabilities,
    "new privileges": lambda: (status("NoNewPrivs") != "1", status("NoNewPrivs")),
    "no seccomp": lambda: (status("Seccomp") != "2", status("Seccomp")),
    "no limit of processes": pid_limit,
    "setuid program": setuid_program,
    "setuid(0)": becomes_root,
    "raw packets": raw_packets,
    "mount": lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, 0),
    "unshare, mounts": lambda: call(272, NEWNS),
    "unshare, users": lambda: call(272, NEWUSER),
    "chroot": lambda: call(161, b"/"),
    "pivot_root": lambda: call(155, b"/", b"/"),
    "mknod, a disk": lambda: call(133, b"/tmp/disk", 0o060666, 0x800),
    "keyctl": lambda: call(248, *KEY),
    "bpf": lambda: call(321, 0, 0, 0),
    "open_by_handle_at": lambda: call(304, -100, b"\0" * 16, 0),
    "init_module": lambda: call(175, b"", 0, b""),
    "kexec_load": lambda: call(246, 0, 0, 0, 0),
    "reboot": lambda: call(169, 0xFEE1DEAD, 672274793, 0, 0),
    "sethostname": lambda: call(170, b"mine", 4),
    "settimeofday": lambda: call(164, b"\0" * 16, 0),
    "swapon": lambda: call(167, b"/tmp/x", 0),
    "iopl": lambda: call(172, 3),
    "acct": lambda: call(163, b"/tmp/acct"),
    "perf_event_open": lambda: call(298, 0, -1, 0, -1, 0),
}


def attempt(how: Callable[[], Came]) -> dict[str, object]:
    try:
        won, said = how()
    except Exception as error:  # noqa: BLE001 (whatever stopped it)
        won, said = False, f"{type(error).__name__}: {error}"
    return {"won": won, "said": said[:200]}


if __name__ == "__main__":
    print(json.dumps({name: attempt(how) for name, how in ATTEMPTS.items()}), flush=True)
