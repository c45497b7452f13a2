"""Every error Jobyard raises on purpose, in one tree.

    JobyardError
    ├── Rejected                  the caller's request cannot be done; nothing was recorded
    │   ├── Invalid               a value is wrong: field, what was given, what is allowed
    │   ├── TooLarge              a body beyond the bound
    │   ├── Unauthenticated       no token, or one that is unknown or revoked
    │   ├── Forbidden             the token's role does not allow it
    │   │   └── QuotaExceeded     the project has no units left
    │   ├── NotFound              no such thing in this project
    │   ├── WrongState            the job is not in a state that allows it
    │   ├── Conflict              the same key or id was used for something else
    │   └── StaleEpoch            a supervisor that lost its lease spoke
    ├── Unavailable               try again: Postgres, Docker or the object store did not answer
    │   └── NotNow                for a client: the service answered that it cannot do it now
    ├── EngineError               the Docker Engine refused
    │   ├── NameTaken             a container of that name exists: inspect, compare, adopt
    │   ├── ImageUnavailable      the image cannot be had; `passing` says whether trying again may help,
    │   │                         `reason` why: access denied, missing, architecture, registry out of reach
    │   ├── CommandUnusable       the container cannot be started as asked (the job's fault)
    │   ├── MountRefused          a volume cannot be where it was asked for (the job's fault)
    │   ├── OutOfReach            a container cannot be gone into from here: not root on the engine's host
    │   ├── GpuDriverMissing      GPUs were asked of an engine that has no GPU driver (our fault)
    │   └── NoSuchContainer
    │       └── NotRunning        it is there, and does not run
    ├── DataError                 a data store or a volume refused
    │   ├── StoreRefused          what was asked of the store cannot be (the job's fault)
    │   │   ├── StoreDenied       wrong keys, or keys without the right
    │   │   └── StoreMissing      no such container or object
    │   ├── FetchRefused          a source of a URL or a git store cannot be had as named (the job's fault)
    │   │   ├── FetchDenied       it asks for credentials, for others, or for more rights
    │   │   ├── FetchMissing      there is no such repository, branch or folder
    │   │   └── HostKeyRefused    the server shows another key than the one that is known
    │   └── UnsafeKey             an object key that must not become a path
    ├── LedgerCorrupt             the hash chain does not hold
    └── Misconfigured             the configuration cannot work

Nothing here knows HTTP: `service/api/errors.py` maps the tree to statuses, in that one place.
"""

from __future__ import annotations

from typing import Literal

#: Why an image cannot be had, for programs.
ImageReason = Literal["denied", "missing", "architecture", "unreachable", "other"]


class JobyardError(Exception):
    """Base of the tree. `message` is for people; `code` is stable and for programs."""

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Rejected(JobyardError):
    code = "rejected"


class Invalid(Rejected):
    """A field holds something that is not allowed.

    `field` is the dotted path as the caller wrote it (`resources.cpu`, `volumes[0].mountPath`);
    `given` is what stood there, already safe to show; `allowed` says what may stand there.
    """

    code = "invalid"

    def __init__(self, field: str, given: object, allowed: str) -> None:
        super().__init__(f"{field}: {_shown(given)} is not allowed; {allowed}")
        self.field = field
        self.given = given
        self.allowed = allowed


class TooLarge(Rejected):
    code = "too-large"


class Unauthenticated(Rejected):
    code = "unauthenticated"


class Forbidden(Rejected):
    code = "forbidden"


class QuotaExceeded(Forbidden):
    code = "quota-exceeded"


class NotFound(Rejected):
    code = "not-found"


class WrongState(Rejected):
    code = "wrong-state"


class Conflict(Rejected):
    code = "conflict"


class StaleEpoch(Rejected):
    code = "stale-epoch"


class Unavailable(JobyardError):
    code = "unavailable"


class NotNow(Unavailable):
    """The service is there and says why it cannot: something that it needs does not answer."""


class EngineError(JobyardError):
    code = "engine-refused"


class NameTaken(EngineError):
    code = "name-taken"


class ImageUnavailable(EngineError):
    """The image is not here and could not be fetched.

    `passing` is True where the same pull may work later (registry out of reach, too many requests,
    no progress) and False where it will not (not found, access denied, wrong architecture). `reason` tells
    these apart, as far as the registry does.
    """

    code = "image-unavailable"

    def __init__(self, message: str, *, passing: bool = False, reason: ImageReason = "other") -> None:
        super().__init__(message)
        self.passing = passing
        self.reason = reason


class CommandUnusable(EngineError):
    code = "command-unusable"


class MountRefused(EngineError):
    code = "mount-refused"


class OutOfReach(EngineError):
    code = "out-of-reach"


class GpuDriverMissing(EngineError):
    code = "gpu-driver-missing"


class NoSuchContainer(EngineError):
    code = "no-such-container"


class NotRunning(NoSuchContainer):
    """There is nothing that runs under this id: the container has ended, or never began."""

    code = "container-not-running"


class DataError(JobyardError):
    code = "data-refused"


class StoreRefused(DataError):
    code = "store-refused"


class StoreDenied(StoreRefused):
    code = "store-denied"


class StoreMissing(StoreRefused):
    code = "store-missing"


class FetchRefused(DataError):
    """The URL leads nowhere, where nothing may be fetched from, or to something that is no such source."""

    code = "fetch-refused"


class FetchDenied(FetchRefused):
    code = "fetch-denied"


class FetchMissing(FetchRefused):
    code = "fetch-missing"


class HostKeyRefused(FetchRefused):
    code = "host-key-refused"


class UnsafeKey(DataError):
    code = "unsafe-key"


class LedgerCorrupt(JobyardError):
    """`position` is the first event that does not hold."""

    code = "ledger-corrupt"

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


class Misconfigured(JobyardError):
    code = "misconfigured"


def _shown(given: object) -> str:
    if given is None:
        return "nothing"
    text = given if isinstance(given, str) else repr(given)
    text = text if len(text) <= 120 else text[:117] + "..."
    return repr(text) if isinstance(given, str) else text
