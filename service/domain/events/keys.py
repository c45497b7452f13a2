"""That what was sealed is gone: its key was destroyed. The ciphertext stays, and so does every proof over it.

The event comes first. Who finds one whose key is still there destroys it (`service/ledger/keys.py`).
"""

from __future__ import annotations

from service.domain.events.base import Body


class KeyDestroyed(Body, frozen=True):
    """The job's own key is destroyed: no value of its environment, no words run in it, are readable again."""

    key_ids: tuple[str, ...] = ()


class ProjectKeyDestroyed(Body, frozen=True):
    """The project's key is destroyed, and with it the keys of its jobs so far, which lie sealed under it."""

    key_ids: tuple[str, ...] = ()
