"""The events: what happened, in the past tense, never changed once written.

An event's body is one of the types of this room; its envelope says where it stands in the ledger, when it
happened and who caused it. Bodies of moves carry what the folds need (the states on both sides, the
units), so that each fold can read an event without looking anything up.

A new body goes into the file of its noun, into the lists of `envelope`, and is named here.
"""

from __future__ import annotations

from service.domain.events.base import (
    Body,
    Direction,
    Info,
    Session,
    SyncState,
    Value,
)
from service.domain.events.billing import (
    BillCorrected,
    CreditGranted,
)
from service.domain.events.budget import (
    BudgetSet,
    BudgetWarned,
)
from service.domain.events.envelope import (
    BODIES,
    JOB_BODIES,
    OTHER_BODIES,
    Event,
    decode_body,
    encode_body,
)
from service.domain.events.job import (
    DataSyncMoved,
    ExecOpened,
    JobDeleted,
    JobEdited,
    LabelSet,
    PushOrdered,
    RunAdopted,
    RunNoted,
    SyncOrdered,
    VolumeProgress,
)
from service.domain.events.keys import (
    KeyDestroyed,
    ProjectKeyDestroyed,
)
from service.domain.events.moves import (
    InterruptOrdered,
    JobSubmitted,
    Move,
    RunAborted,
    RunErrored,
    RunExited,
    RunFinalized,
    RunPlaced,
    RunPrepared,
    RunQueued,
    RunStarted,
    StorageExceeded,
    TimeoutReached,
)
from service.domain.events.project import (
    DataStoreRemoved,
    DataStoreSet,
    ProjectCreated,
    QuotaSet,
    RegistryRemoved,
    RegistrySet,
    TokenCreated,
    TokenRenewed,
    TokenRevoked,
    VolumeCreated,
    VolumeDeleted,
)
from service.domain.events.refusal import SubmissionRefused
from service.domain.events.webhook import (
    WebhookPaused,
    WebhookRemoved,
    WebhookReplayed,
    WebhookResumed,
    WebhookRotated,
    WebhookSet,
)
from service.domain.events.yard import (
    AdmissionSet,
    PricesSet,
    SupervisorStarted,
)

__all__ = [
    "BODIES",
    "JOB_BODIES",
    "OTHER_BODIES",
    "AdmissionSet",
    "BillCorrected",
    "Body",
    "BudgetSet",
    "BudgetWarned",
    "CreditGranted",
    "DataStoreRemoved",
    "DataStoreSet",
    "DataSyncMoved",
    "Direction",
    "Event",
    "ExecOpened",
    "Info",
    "InterruptOrdered",
    "JobDeleted",
    "JobEdited",
    "JobSubmitted",
    "KeyDestroyed",
    "LabelSet",
    "Move",
    "PricesSet",
    "ProjectCreated",
    "ProjectKeyDestroyed",
    "PushOrdered",
    "QuotaSet",
    "RegistryRemoved",
    "RegistrySet",
    "RunAborted",
    "RunAdopted",
    "RunErrored",
    "RunExited",
    "RunFinalized",
    "RunNoted",
    "RunPlaced",
    "RunPrepared",
    "RunQueued",
    "RunStarted",
    "Session",
    "StorageExceeded",
    "SubmissionRefused",
    "SupervisorStarted",
    "SyncOrdered",
    "SyncState",
    "TimeoutReached",
    "TokenCreated",
    "TokenRenewed",
    "TokenRevoked",
    "Value",
    "VolumeCreated",
    "VolumeDeleted",
    "VolumeProgress",
    "WebhookPaused",
    "WebhookRemoved",
    "WebhookReplayed",
    "WebhookResumed",
    "WebhookRotated",
    "WebhookSet",
    "decode_body",
    "encode_body",
]
