"""What every event body is, and the words that several of them use."""

from __future__ import annotations

from typing import Literal

import msgspec

Value = str | int | bool | None
Direction = Literal["pull", "push"]
SyncState = Literal["RUNNING", "DONE", "FAILED"]
#: How somebody went into a container: by the API (`exec`), or by SSH.
Session = Literal["exec", "shell", "command", "sftp", "forward"]


class Body(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True, gc=False):
    """Base of every event body. Unknown fields are ignored, so that older readers read newer events.

    Nothing that is frozen and comes from JSON can hold itself: the garbage collector need not look at it,
    here and in the other structs of which there are many.
    """


class Info(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """Why a job is as it is: a stable code for programs, a sentence for people."""

    code: str
    message: str
    arguments: dict[str, Value] = {}
