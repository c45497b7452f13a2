"""What was asked for and refused: nothing was made of it, but that it was wanted is known."""

from __future__ import annotations

import msgspec

from service.domain.events.base import Body, Info
from service.domain.spec import Resources


class SubmissionRefused(Body, frozen=True):
    """A job was not taken, or not started again, for a limit of its project: `info` says which.

    `info.code` is the code of the refusal (`quota-exceeded`), its arguments the limit and what was in use.
    `digest` tells the same work asked for once more: it covers the specification without its name and its
    secrets. `wanted` is the id that the job would have had; None for one that is there and was not started.
    """

    info: Info
    resources: Resources
    image: str
    name: str
    digest: str
    user: str
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    wanted: str | None = None
