"""Signing checkpoints: every so many events or seconds the tree over the ledger grows, its root is signed.

It is grown from its edge, which is read back from where the tiles are kept: some dozens of hashes, never the
whole ledger. Before anything is signed the new tree must extend the last one that was; a ledger that was
rewritten, or tiles that were, are refused, loudly, for as long as they are so.

Nothing is ever overwritten, and what is written follows from the ledger alone. So two who write at once write
the same, and who is on duty is a matter of economy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from service.audit.log import Log
from service.audit.places import Place
from service.audit.trouble import Trouble
from service.config import Settings
from service.domain.checkpoint import (
    Checkpoint,
    NotACheckpoint,
    Note,
    PublicKey,
    origin_of,
    read_note,
)
from service.domain.merkle import Growing, leaf
from service.errors import CheckpointRefused, JobyardError, StoreMissing
from service.ledger.database import translated
from service.ledger.ledger import Ledger
from service.ledger.read import Head
from service.vault import SigningKey, is_signed
from sql import queries

_SQL = queries("audit")
_log = structlog.get_logger()

LOOK_S = 1.0
PAGE = 10_000


class Signer:
    """Run `run` in a task of its own; it never ends by itself. `on_duty`: whether this process is to sign."""

    def __init__(
        self,
        ledger: Ledger,
        place: Place,
        key: SigningKey,
        settings: Settings,
        on_duty: Callable[[], bool] = lambda: True,
    ) -> None:
        self._ledger = ledger
        self._place = place
        self._key = key
        self._settings = settings
        self._on_duty = on_duty
        self._log: Log | None = None
        self._last: Checkpoint | None = None
        self._tree = Growing()
        self._seen: Head | None = None
        self._trouble = Trouble(time.monotonic)

    async def run(self) -> None:
        """Timing only: look again and again, and say what is refused."""
        pause_s = min(LOOK_S, self._settings.checkpoint_s)
        while True:
            try:
                await self.run_once()
            except CheckpointRefused as error:
                self._forget()
                if self._trouble.seen(error.message):
                    why = error.message
                    _log.error("checkpoint refused: the ledger contradicts what was signed", why=why)
            except JobyardError as error:
                self._forget()
                if self._trouble.seen("interrupted"):
                    _log.warning("checkpoint interrupted", error=error.message)
            except Exception as error:  # noqa: BLE001 (whatever it is, the next look begins anew)
                self._forget()
                if self._trouble.seen(type(error).__name__):
                    _log.exception("checkpoint failed")
            else:
                self._say_over()
            await asyncio.sleep(pause_s)

    async def run_once(self, *, now: bool = False) -> Checkpoint | None:
        """Sign a checkpoint if one is due (`now`: if anything is new); the one that was signed.

        Raises `CheckpointRefused`, and `Unavailable`.
        """
        if not self._on_duty():
            self._forget()  # somebody else may write meanwhile
            return None
        head = await self._ledger.head()
        if head == self._seen:
            return None
        log = self._log = self._log or Log.of(self._place, head.ledger_id)
        last = self._last or await self._read_back(log, head)
        await self._require_extended(last, head)
        if head.position == last.size:
            self._seen = head
            return None
        if not now and not await self._is_due(last, head):
            return None
        signed = await self._sign(log, last, head)
        self._last, self._seen = signed, head
        return signed

    def _forget(self) -> None:
        self._last = self._seen = None

    def _say_over(self) -> None:
        """A look that found nothing due tells nothing: the place may be one that cannot be written to."""
        if self._seen is not None and (over := self._trouble.over()) is not None:
            _log.info("checkpoints are signed again", after_s=round(over.seconds, 1), failed=over.times)

    async def _is_due(self, last: Checkpoint, head: Head) -> bool:
        if last.size == 0 or head.position - last.size >= self._settings.checkpoint_events:
            return True
        age = await self._ledger.now() - last.at
        # A negative age: the clock was ahead when the last one was signed, and nobody knows how old it is.
        return not 0 <= age.total_seconds() < self._settings.checkpoint_s

    async def _read_back(self, log: Log, head: Head) -> Checkpoint:
        """The last checkpoint at the place, with its tree; an empty one where there is none."""
        known = await self._known()
        sizes = await log.sizes(known.size - 1 if known else 0)
        if not sizes and known is not None:
            sizes = await log.sizes()
        if not sizes:
            self._tree = Growing()
            origin = origin_of(head.ledger_id)
            return Checkpoint(
                origin, 0, self._tree.root(), bytes(32), head.epoch, 0, await self._ledger.now()
            )
        text = await log.note(sizes[-1])
        found = self._own(text or "", head, f"{log.place}: {log.name(sizes[-1])}")
        if found.size != sizes[-1]:
            raise CheckpointRefused(f"{log.place}: {log.name(sizes[-1])} is of size {found.size}")
        try:
            self._tree = await log.tree(found.size)
        except StoreMissing as error:
            raise CheckpointRefused(error.message) from error
        if self._tree.root() != found.root:
            raise CheckpointRefused(
                f"{log.place}: the tiles do not give the root of the checkpoint of size {found.size}"
            )
        return found

    async def _known(self) -> Checkpoint | None:
        """The last one that the database knows of."""
        with translated():
            record: Any = await self._ledger.pool.fetchrow(_SQL.newest_checkpoint)
        if record is None:
            return None
        try:
            return read_note(record["note"]).checkpoint
        except NotACheckpoint as error:
            raise CheckpointRefused(
                f"the database's own checkpoint of size {record['size']} was changed: {error}"
            ) from error

    def _own(self, text: str, head: Head, where: str) -> Checkpoint:
        """A checkpoint of this ledger that this key signed."""
        try:
            note = read_note(text)
        except NotACheckpoint as error:
            raise CheckpointRefused(f"{where}: {error}") from error
        key = PublicKey(origin_of(head.ledger_id), self._key.public)
        if note.checkpoint.origin != key.name:
            raise CheckpointRefused(f"{where} is of another ledger, {note.checkpoint.origin}")
        if not is_signed(key.key, note.signature, note.checkpoint.text.encode()):
            raise CheckpointRefused(
                f"{where} is not signed with this service's key: it was changed, or the key was. After a "
                "change of the key, begin at another place (JOBYARD_CHECKPOINT_TO)"
            )
        return note.checkpoint

    async def _require_extended(self, last: Checkpoint, head: Head) -> None:
        """The ledger goes on from where the last checkpoint was."""
        if head.position < last.size:
            raise CheckpointRefused(
                f"event {head.position + 1} is missing: the ledger ends at {head.position}, "
                f"and a checkpoint of size {last.size} was signed"
            )
        if last.size:
            with translated():
                found = await self._ledger.pool.fetchval(_SQL.hash_at, last.size)
            if found != last.chain:
                raise CheckpointRefused(
                    f"event {last.size} has another hash than when the checkpoint of that size was signed: "
                    "it, or something before it, was rewritten; `jobyard audit verify --against` names it"
                )

    async def _sign(self, log: Log, last: Checkpoint, head: Head) -> Checkpoint:
        known = await self._known()
        chain = last.chain
        tree, self._last = self._tree, None  # half grown, it is of no use: only the end sets it again
        while tree.size < head.position:
            with translated():
                records = await self._ledger.pool.fetch(_SQL.hashes, tree.size, head.position, PAGE)
            for record in records:
                if record["position"] != tree.size + 1:
                    break
                chain = record["hash"]
                for tile, data in tree.append(leaf(chain)):
                    await log.keep_tile(tile, data)
                if known is not None and tree.size == known.size and tree.root() != known.root:
                    raise CheckpointRefused(
                        f"the ledger's first {known.size} events are not those that were signed: "
                        "one of them was rewritten"
                    )
            if not records or records[-1]["position"] != tree.size:
                raise CheckpointRefused(f"event {tree.size + 1} is missing")
        if chain != head.hash:
            raise CheckpointRefused(f"event {head.position} has another hash than the ledger's head says")
        for tile, data in tree.tiles():
            await log.keep_tile(tile, data)
        made = Checkpoint(
            origin_of(head.ledger_id),
            head.position,
            tree.root(),
            chain,
            head.epoch,
            last.size,
            await self._ledger.now(),
        )
        await self._keep(log, made, head)
        _log.info("checkpoint signed", size=made.size, root=made.root.hex(), place=str(log.place))
        return made

    async def _keep(self, log: Log, made: Checkpoint, head: Head) -> None:
        key = PublicKey(made.origin, self._key.public)
        text = Note(made, key.name, key.id, self._key.sign(made.text.encode())).text
        if not await log.keep_note(made.size, text):
            # Another process was first: it must have said the same, but for the time.
            text = await log.note(made.size) or ""
            first = self._own(text, head, f"{log.place}: {log.name(made.size)}")
            if (first.size, first.root) != (made.size, made.root):
                raise CheckpointRefused(f"{log.place}: {log.name(made.size)} has another root")
        with translated():
            await self._ledger.pool.execute(_SQL.add_checkpoint, made.size, text)
