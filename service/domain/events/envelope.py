"""The envelope: where an event stands in the ledger, when it happened and who caused it."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from service.domain.events import billing, budget, job, keys, moves, project, refusal, webhook, yard
from service.domain.events.base import Body

JOB_BODIES: tuple[type[Body], ...] = (
    moves.JobSubmitted,
    moves.RunQueued,
    moves.RunPlaced,
    moves.RunPrepared,
    moves.RunStarted,
    moves.InterruptOrdered,
    moves.TimeoutReached,
    moves.StorageExceeded,
    moves.RunExited,
    moves.RunAborted,
    moves.RunFinalized,
    moves.RunErrored,
    job.RunNoted,
    job.RunAdopted,
    job.DataSyncMoved,
    job.PushOrdered,
    job.SyncOrdered,
    job.JobEdited,
    job.LabelSet,
    job.JobDeleted,
    keys.KeyDestroyed,
)
OTHER_BODIES: tuple[type[Body], ...] = (
    job.ExecOpened,
    project.ProjectCreated,
    project.QuotaSet,
    project.TokenCreated,
    project.TokenRenewed,
    project.TokenRevoked,
    project.DataStoreSet,
    project.DataStoreRemoved,
    project.RegistrySet,
    project.RegistryRemoved,
    project.VolumeCreated,
    project.VolumeDeleted,
    webhook.WebhookSet,
    webhook.WebhookRotated,
    webhook.WebhookPaused,
    webhook.WebhookResumed,
    webhook.WebhookReplayed,
    webhook.WebhookRemoved,
    budget.BudgetSet,
    budget.BudgetWarned,
    billing.CreditGranted,
    billing.BillCorrected,
    keys.ProjectKeyDestroyed,
    refusal.SubmissionRefused,
    yard.PricesSet,
    yard.SupervisorStarted,
    yard.AdmissionSet,
)
BODIES: dict[str, type[Body]] = {body.__name__: body for body in (*JOB_BODIES, *OTHER_BODIES)}


class Event(msgspec.Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    """One entry of the ledger. Times are aware and UTC; `recorded_at` is the database's clock.

    `client_address` is where the request came from, where that is known.
    """

    position: int
    project: str | None
    job: UUID | None = None
    run: int | None = None
    body: Any
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    command_id: UUID
    request_id: str | None = None
    client_address: str | None = None

    @property
    def type(self) -> str:
        return type(self.body).__name__


_encoder = msgspec.json.Encoder(order="sorted")


def encode_body(body: Body) -> bytes:
    """The canonical JSON of a body: sorted keys, no white space (RFC 8785, see tests/properties)."""
    return _encoder.encode(body)


@lru_cache(maxsize=len(BODIES))
def _decoder(name: str) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(BODIES[name])


def decode_body(name: str, data: bytes | str) -> Body:
    """Read a body back. Raises `KeyError` for a type this version does not know."""
    body: Body = _decoder(name).decode(data)
    return body
