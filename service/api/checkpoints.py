"""The checkpoints and tiles, as the API reads them, and whose key signs them."""

from __future__ import annotations

from functools import cached_property

from service.audit.bucket import open_place
from service.audit.log import Log
from service.config import Settings
from service.ledger.ledger import Ledger
from service.vault import signing_key


class Checkpoints:
    """Of one application. Close it at its end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._place = open_place(settings.checkpoints, settings.checkpoint_s3)
        self._log: Log | None = None

    async def log(self, ledger: Ledger) -> Log:
        """Of the ledger."""
        if self._log is None:
            self._log = Log.of(self._place, (await ledger.head()).ledger_id)
        return self._log

    @cached_property
    def signs(self) -> bytes:
        """The public half of the key."""
        return signing_key(self._settings.checkpoint_key or None, self._settings.checkpoint_key_file).public

    async def close(self) -> None:
        await self._place.close()
