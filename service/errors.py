"""Every error Jobyard raises on purpose, in one tree.

    JobyardError
    ├── Rejected                  the caller's request cannot be done; nothing of it was recorded
    │   ├── Invalid               a value is wrong: field, what was given, what is allowed
    │   ├── TooLarge              a body beyond the bound
    │   ├── TooMany               the token asks for more at a time than it may
    │   ├── Unauthenticated       no token, or one that is unknown or revoked
    │   ├── Forbidden             the token's role does not allow it
    │   │   └── QuotaExceeded     the project has no units left
    │   ├── BudgetExceeded        the project has spent its budget of the month
    │   ├── NotFound              no such thing in this project
    │   ├── WrongState            the job is not in a state that allows it
    │   ├── Conflict              the same key or id was used for something else, or it is still needed
    │   ├── Erased                a secret that it needs is gone: its key was destroyed
    │   └── StaleEpoch            a supervisor that lost its lease spoke
    ├── Unavailable               try again: Postgres, Docker or the object store did not answer
    │   ├── EngineAway            it was the Docker Engine
    │   ├── AnotherEngine         another Docker Engine answers in the place of the one before
    │   ├── NodeFull              a disk of the node has no space left
    │   └── NotNow                for a client: the service answered that it cannot do it now
    ├── EngineError               the Docker Engine refused
    │   ├── NameTaken             a container of that name exists: inspect, compare, adopt
    │   ├── ImageUnavailable      the image cannot be had; `passing` says whether trying again may help,
    │   │                         `reason` why: access denied, missing, architecture, registry out of reach
    │   ├── CommandUnusable       the container cannot be started as asked (the job's fault)
    │   ├── MountRefused          a volume cannot be where it was asked for (the job's fault)
    │   ├── OutOfReach            a container cannot be gone into from here: not root on the engine's host
    │   ├── NetworkBroken         the network or its link is gone from the engine's host: it is to be made
    │   │                         anew (our fault)
    │   ├── LogBroken             the engine cannot read its own log of a container (any further)
    │   ├── GpuDriverMissing      GPUs were asked of an engine that has no GPU driver (our fault)
    │   └── NoSuchContainer
    │       └── NotRunning        it is there, and does not run
    ├── DataError                 a data store or a volume refused
    │   ├── StoreRefused          what was asked of the store cannot be (the job's fault)
    │   │   ├── StoreDenied       wrong keys, or keys without the right
    │   │   ├── StoreForbidden    no store of a user's may be at its address
    │   │   └── StoreMissing      no such container or object
    │   ├── FetchRefused          a source of a URL or a git store cannot be had as named (the job's fault)
    │   │   ├── FetchDenied       it asks for credentials, for others, or for more rights
    │   │   ├── FetchMissing      there is no such repository, branch or folder
    │   │   └── HostKeyRefused    the server shows another key than the one that is known
    │   ├── DiskFull              no space is left on the volume's disk
    │   └── UnsafeKey             an object key that must not become a path
    ├── Unreadable                a file of ours is not whole, was changed, or is of a version not known here
    ├── LedgerCorrupt             the hash chain does not hold
    ├── EventsLost                the ledger has no longer what was read of it: a failover lost events
    ├── CheckpointRefused         what was signed before, or lies where it is kept, contradicts the ledger
    └── Misconfigured             the configuration cannot work

Nothing here knows HTTP: `service/api/errors.py` maps the tree to statuses, in that one place.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """`facts` are the numbers of it, for programs. `decisions` are the events, if any, that are recorded of
    the refusal itself; what was asked for has not been done."""

    code = "rejected"
    facts: Mapping[str, str | int | bool | None] = {}
    decisions: tuple[object, ...] = ()


class Invalid(Rejected):
    """A field holds something that is not allowed.

    `field` is the dotted path as the caller wrote it (`resources.cpu`, `volumes[0].mountPath`);
    `given` is what stood there, already safe to show, and None where nothing did; `allowed` says what may.
    """

    code = "invalid"

    def __init__(self, field: str, given: object, allowed: str) -> None:
        what = "it is missing" if given is None else f"{_shown(given)} is not allowed"
        super().__init__(f"{field}: {what}; {allowed}")
        self.field = field
        self.given = given
        self.allowed = allowed


class TooLarge(Rejected):
    code = "too-large"


class TooMany(Rejected):
    """`retry_after_s`: whole seconds after which the same request would be let in."""

    code = "too-many-requests"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(f"{message}; try again after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Unauthenticated(Rejected):
    code = "unauthenticated"


class Forbidden(Rejected):
    code = "forbidden"


class QuotaExceeded(Forbidden):
    code = "quota-exceeded"


class BudgetExceeded(Rejected):
    """The message has the figures, for its caller, and when the month ends; `recorded` has none of them, as
    whoever reads of the refusal may see not all that was spent."""

    code = "budget-exceeded"

    def __init__(self, message: str, recorded: str = "") -> None:
        super().__init__(message)
        self.recorded = recorded or message


class NotFound(Rejected):
    code = "not-found"


class WrongState(Rejected):
    code = "wrong-state"


class Conflict(Rejected):
    code = "conflict"


class Erased(Rejected):
    code = "erased"


class StaleEpoch(Rejected):
    code = "stale-epoch"


class Unavailable(JobyardError):
    code = "unavailable"


class EngineAway(Unavailable):
    """The Docker Engine does not answer. What runs in it may well go on."""


class AnotherEngine(Unavailable):
    """What answers as the Docker Engine has another id than before."""


class NodeFull(Unavailable):
    """No space is left: it goes on when there is some again."""


class NotNow(Unavailable):
    """The service is there and says why it cannot: something that it needs does not answer."""


class EngineError(JobyardError):
    code = "engine-refused"


class NameTaken(EngineError):
    code = "name-taken"


class LogBroken(EngineError):
    """What was handed over before it holds; a disk that was full tears a log, for one."""

    code = "log-broken"


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


class NetworkBroken(EngineError):
    """`network` is how the id of the network begins whose link is gone; empty where it is gone itself."""

    code = "network-broken"

    def __init__(self, message: str, network: str = "") -> None:
        super().__init__(message)
        self.network = network


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


class StoreForbidden(StoreRefused):
    """Its endpoint, and nothing about its keys, is at fault. `why` tells of the address alone."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


class KeysErased(StoreDenied):
    """The keys of the store were erased with their project's."""


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


class DiskFull(DataError):
    code = "disk-full"


class UnsafeKey(DataError):
    code = "unsafe-key"


class Unreadable(JobyardError):
    code = "unreadable"


class LedgerCorrupt(JobyardError):
    """`position` is the first event that does not hold."""

    code = "ledger-corrupt"

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


class EventsLost(JobyardError):
    """`position` is where its reader was. What he knows of it may never have been."""

    code = "events-lost"

    def __init__(self, position: int) -> None:
        super().__init__(f"the ledger has lost events that were read of it, at position {position} or before")
        self.position = position


class CheckpointRefused(JobyardError):
    code = "checkpoint-refused"


class Misconfigured(JobyardError):
    code = "misconfigured"


def _shown(given: object) -> str:
    text = given if isinstance(given, str) else repr(given)
    text = text if len(text) <= 120 else text[:117] + "..."
    return repr(text) if isinstance(given, str) else text
