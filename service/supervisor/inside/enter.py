"""A program: `enter.py PID CONTAINER-ID HOME` serves SFTP in a container's mounts, on its standard streams.

There are two processes. The outer one stays on the host as root: it holds the container's first process, puts
the inner one into the container's cgroups, and ends it when the container ends. The inner one is for the job:
it goes into the container's mounts and network, gives up everything but the job's user, and only then looks
at a path. It is alone in a pid namespace of its own, which is not the container's: the job cannot see or
trace it, and it could reach no process even if somebody made it do what it should not. What it needs is
imported before it goes in, as a later import would run the container's files.

Standard library only, and run with `-I -S`, so that it is there within a few hundredths of a second.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys

if __name__ == "__main__":
    # With -I nothing leads to our own code.
    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3)))

from service.supervisor.inside import hold, sftp

JOB_UID = JOB_GID = 42420
#: How the program ends when nothing was entered; the reason is on standard error.
NOT_ENTERED = 3

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 4, 38, 47
_PR_CAPBSET_DROP, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 4
_MOST_CAPABILITIES = 64
_LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    pid, container_id, home = int(sys.argv[1]), sys.argv[2], os.fsencode(sys.argv[3])
    parent = os.getppid()
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(NOT_ENTERED)  # whoever asked is gone already
    try:
        held = hold.hold(pid, container_id)
        sys.exit(_serve(held, home))
    except (OSError, hold.NotHeld) as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_ENTERED)


def _serve(held: hold.Held, home: bytes) -> int:
    """Start the inner process, and wait for its end, the container's, or our parent's."""
    go_out, go_in = os.pipe()
    # From here on children are born into namespaces of their own; this process stays where it is.
    _call("unshare", hold.CLONE_NEWPID)
    inner = os.fork()
    if inner == 0:
        try:
            os.close(go_in)
            _become_the_jobs(held, home, go_out)
            sftp.serve(sftp.Server(home), 0, 1)
            os._exit(0)
        except (OSError, sftp.Broken) as error:
            os.write(2, f"{error}\n".encode())
        finally:
            os._exit(1)  # whatever happened, nothing of the outer process's is gone through here
    os.close(go_out)
    ended = os.pidfd_open(inner)
    try:
        _join_cgroups(inner, held.cgroups)
        os.write(go_in, b"!")  # and held open: its end is the end of this process
        for stream in (0, 1):
            os.close(stream)  # so that the end of one side is the end for the other
        select.select([ended, held.process], [], [])
    finally:
        signal.pidfd_send_signal(ended, signal.SIGKILL)
        _, status = os.waitpid(inner, 0)
    return os.waitstatus_to_exitcode(status) & 0xFF


def _become_the_jobs(held: hold.Held, home: bytes, go: int) -> None:
    """Go in, and give up what the job does not have. Nothing is opened in between."""
    if os.read(go, 1) != b"!":
        raise OSError("the cgroups could not be joined")
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    _call("unshare", hold.CLONE_NEWIPC | hold.CLONE_NEWUTS)
    _call("setns", held.network, hold.CLONE_NEWNET)
    _call("setns", held.mounts, hold.CLONE_NEWNS)
    for capability in range(_MOST_CAPABILITIES):
        _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # those beyond the kernel's last are refused
    _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    os.setgroups([])
    os.setresgid(JOB_GID, JOB_GID, JOB_GID)
    os.setresuid(JOB_UID, JOB_UID, JOB_UID)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", _PR_SET_DUMPABLE, 0)
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)  # giving up root had taken it back
    if select.select([go], [], [], 0)[0]:
        raise OSError("whoever looks after it has gone")  # the container's limits may have held us up so long
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.umask(0o022)
    try:
        os.chdir(home)
    except OSError:
        os.chdir(b"/")


def _join_cgroups(pid: int, cgroups: str) -> None:
    """Put a process under the container's limits, in every hierarchy there is."""
    places = _hierarchies()
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        place = places.get(frozenset(controllers.split(",")) if controllers else _V2)
        if place is None:
            continue  # a hierarchy that is not mounted here has no limits either
        root, mounted = place
        inside = path[len(root.rstrip("/")) :] if path.startswith(root) else path
        with open(f"{mounted}{inside}/cgroup.procs", "w") as file:
            file.write(str(pid))


#: Stands for the hierarchy of cgroups version 2, which has all controllers that the others have not.
_V2: frozenset[str] = frozenset()
_OPTIONS = frozenset({"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode"})


def _hierarchies() -> dict[frozenset[str], tuple[str, str]]:
    """What of each hierarchy is mounted, and where; by its controllers."""
    found: dict[frozenset[str], tuple[str, str]] = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            root, mounted = fields.split()[3:5]
            kind, _, options = rest.split(" ", 2)
            if kind == "cgroup2":
                found.setdefault(_V2, (root, mounted))
            elif kind == "cgroup":
                named = {each for each in options.strip().split(",") if not each.startswith("release_agent=")}
                found.setdefault(frozenset(named - _OPTIONS), (root, mounted))
    return found


def _call(name: str, *arguments: int) -> None:
    """A call of libc that answers 0. Raises `OSError`."""
    if getattr(_LIBC, name)(*(ctypes.c_ulong(each) for each in arguments)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
