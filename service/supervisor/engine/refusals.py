"""What an engine's words mean when it refuses, and how much of them a user may read. Pure."""

from __future__ import annotations

import re

from service.errors import (
    CommandUnusable,
    EngineError,
    GpuDriverMissing,
    MountRefused,
    NetworkBroken,
    NoSuchContainer,
    Unavailable,
)
from service.supervisor.engine.wire import NO_SPACE, Answer, refused

#: What the runtime says when the job's own command, user or directory cannot be used.
_JOBS_FAULT = (
    "executable file not found",
    "no such file or directory",
    "permission denied",
    "is a directory",
    "chdir to cwd",
    "exec format error",
)
#: Said with any status: no such user, or a volume where the list of users is.
_NO_USER = "unable to find user"

#: A project's bridge that somebody took away, and a network that was made anew since the container was made.
_LINK_GONE = re.compile(r"could not find bridge br-(?P<id>[0-9a-f]{12}): .*no such network interface")
_NETWORK_GONE = re.compile(r"network \S+ not found")

_MOUNT = re.compile(r'error mounting ".*?" to rootfs at "(?P<at>/[^"]*)"')
#: Why a mount fails by what is in the image, or by another volume. Others, a source that is gone for one, are
#: the node's.
_IN_THE_WAY = {
    "not a directory": "it is a file of the image, or lies below one",
    "read-only file system": "a volume that is read-only is in the way",
    "is inside /proc": "it leads to /proc",
    "too many levels of symbolic links": "it leads to itself",
}

#: The one reason for which a log is a conflict: a removal is under way, or failed, or was cut off.
_BEING_REMOVED = "dead or marked for removal"

_RUNTIME = "unable to start container process: "
_QUOTED_PATH = re.compile(r'"/[^"]*"')
_PATH = re.compile(r"""(?<![\w.~@/-])/(?!/)[^\s"',;:()]+(?::/[^\s"',;:()]+)?""")
_HOSTS_PATH = re.compile(r"/\S*[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\S*")


def start_refused(container_id: str, answer: Answer) -> EngineError:
    """Why a container did not start. Raises `Unavailable` when the engine is not well."""
    said = answer.message
    if answer.status == 503 or NO_SPACE in said.lower():
        raise refused(f"start {container_id}", answer)
    if "could not select device driver" in said:
        return GpuDriverMissing("the engine has no GPU driver: install the NVIDIA Container Toolkit")
    if answer.status == 404 and "No such container" in said:
        return NoSuchContainer(f"no container {container_id}")
    if (gone := _LINK_GONE.search(said)) is not None:
        return NetworkBroken(f"the link of network {gone['id']} is gone", gone["id"])
    if answer.status == 404 and _NETWORK_GONE.search(said):
        return NetworkBroken("the network is gone that the container was made for")
    mount = _MOUNT.search(said)
    if mount is not None:
        why = next((why for words, why in _IN_THE_WAY.items() if words in said[mount.end() :]), None)
        if why is not None:
            return MountRefused(f"nothing can be mounted at {mount['at']}: {why}")
    elif _NO_USER in said or (answer.status == 400 and any(reason in said for reason in _JOBS_FAULT)):
        of_job = _HOSTS_PATH.sub("(a path of the node)", said.rpartition(_RUNTIME)[2])
        return CommandUnusable(f"the command cannot be started: {of_job[-300:]}")
    return EngineError(f"start {container_id}: the Docker Engine answered {answer.status}: {said}")


def logs_refused(container_id: str, answer: Answer) -> EngineError | Unavailable:
    """Why a log cannot be read. Of a container whose removal was begun it never can be again, although the
    container may stay for long."""
    if answer.status == 404:
        return NoSuchContainer(f"no container {container_id}")
    if answer.status == 409 and _BEING_REMOVED in answer.message:
        return NoSuchContainer(f"container {container_id} is being removed, or half removed")
    return refused(f"logs of {container_id}", answer)


def without_paths(said: str) -> str:
    """An engine's words without any path, for users: those of its host are none of theirs."""
    return _PATH.sub("(a path)", _QUOTED_PATH.sub("(a path)", said))
