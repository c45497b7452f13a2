"""The checkpoints and tiles at a place as a witness of the ledger: which event is not as it was signed.

The tiles are believed only where they give the root of a checkpoint that the key signed; from there on each
event is compared with its own leaf, so that the first that was rewritten is named exactly, however well the
chain after it was made again. Where tiles are missing or damaged the roots alone are compared: then it is
known between which two checkpoints the first bad event lies.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from service.audit.log import FOLDER, Log
from service.audit.proofs import signed_checkpoint
from service.domain.checkpoint import Checkpoint, NotACheckpoint, PublicKey, id_in, read_note
from service.domain.merkle import HASH_BYTES, WIDTH, Growing, Tile, leaf
from service.errors import LedgerCorrupt, StoreMissing

#: How often it is looked whether a checkpoint that is being made has come.
LOOK_S = 0.1
#: Tiles come before their checkpoint, and the database hears of it last.
_OR_KILLED = (
    "; it was taken away, or whoever signed was killed before writing it, which the next checkpoint mends: "
    "start the service, and verify again once it has signed"
)


class Evidence:
    """Made by `gathered`. `problems`: what is wrong with the evidence itself, in words.

    `checkpoints` are those that the key signed, by size; the tiles tell every leaf up to `told`.
    """

    def __init__(self, log: Log | None) -> None:
        self._log = log
        self.checkpoints: list[Checkpoint] = []
        self.problems: list[str] = []
        self.told = 0
        self._sizes: list[int] = []
        self._beyond = False
        self._held = 0
        self._leaves: dict[int, bytes] = {}
        self._tree = Growing()
        self._due: dict[int, Checkpoint] = {}

    @classmethod
    async def gathered(cls, log: Log, key: PublicKey, known: int = 0, *, settle_s: float = 0) -> Evidence:
        """Everything at a place. `known`: the size of the newest checkpoint that the database knows of.

        Whoever signs meanwhile writes tiles first and the checkpoint then. So where tiles reach beyond the
        newest one, another is waited for, `settle_s` at most, before it is called missing.
        """
        loop = asyncio.get_running_loop()
        over_at = loop.time() + settle_s
        while True:
            made = await cls._gathered(log, key, known)
            sizes = made._sizes
            while made._beyond and sizes == made._sizes:
                if loop.time() >= over_at:
                    return made
                await asyncio.sleep(LOOK_S)
                sizes = await log.sizes()
            if not made._beyond:
                return made

    @classmethod
    async def _gathered(cls, log: Log, key: PublicKey, known: int) -> Evidence:
        made = cls(log)
        sizes = made._sizes = await log.sizes()
        if (strange := await _strange(log, sizes, key)) is not None:
            made.problems.append(strange)
            return made
        for size in sizes:
            made._take(await log.note(size) or "", key, size, f"checkpoint {size} ({log.name(size)})")
        made._look_for_gaps(sizes)
        if not sizes:
            told = f", and the database knows of one of size {known}" if known else ""
            made.problems.append(f"there are no checkpoints at {log.place}{told}")
        elif known > made.covered:
            made.problems.append(
                f"checkpoint {known} is missing: the database knows of it, and the newest at {log.place} "
                f"is {made.covered or 'none'}"
            )
        await made._read_tiles(log)
        await made._look_beyond(log, known)
        return made

    @classmethod
    def of_another(cls, key: PublicKey, ledger: UUID) -> Evidence:
        """What a key signed that is not of the ledger in question: it tells nothing of it."""
        made = cls(None)
        made.problems.append(
            f"the key is of the ledger {id_in(key.name)}, and what is verified is of {ledger}"
        )
        return made

    @classmethod
    def of_note(cls, text: str, key: PublicKey) -> Evidence:
        """One checkpoint that somebody kept, without tiles."""
        made = cls(None)
        made._take(text, key, None, "the checkpoint")
        return made

    @property
    def covered(self) -> int:
        """How many events are under a signature."""
        return self.checkpoints[-1].size if self.checkpoints else 0

    def _take(self, text: str, key: PublicKey, size: int | None, named: str) -> None:
        try:
            found = signed_checkpoint(text, key)
        except NotACheckpoint as error:
            self.problems.append(f"{named} does not hold: {error}")
            return
        if size is not None and found.size != size:
            self.problems.append(f"{named} does not hold: it is of size {found.size}")
            return
        self.checkpoints.append(found)
        self._due[found.size] = found

    def _look_for_gaps(self, sizes: list[int]) -> None:
        there = set(sizes)
        for found in self.checkpoints:
            if found.previous not in there and sizes[0] < found.previous:
                self.problems.append(
                    f"checkpoint {found.previous} is missing: checkpoint {found.size} says that it was before"
                )

    async def _read_tiles(self, log: Log) -> None:
        """Find out how far the tiles are to be believed."""
        tree = Growing()
        for checkpoint in self.checkpoints:
            try:
                while tree.size < checkpoint.size:
                    await self._grow(log, tree, checkpoint.size)
            except StoreMissing as error:
                self.problems.append(f"the tiles tell events up to {self.told} alone: {error.message}")
                return
            if tree.root() != checkpoint.root:
                self.problems.append(
                    f"the tiles tell events up to {self.told} alone: they do not give the root of "
                    f"checkpoint {checkpoint.size}"
                )
                return
            self.told = checkpoint.size
        await self._compare_edge(log, tree)

    async def _grow(self, log: Log, tree: Growing, size: int) -> None:
        """By what is left of one tile, at most to a size."""
        number, begun = divmod(tree.size, WIDTH)
        width = min(WIDTH, self.covered - number * WIDTH)
        data = await log.tile(Tile(0, number, width))
        upto = min(width, size - number * WIDTH)
        for at in range(begun, upto):
            for tile, expected in tree.append(data[at * HASH_BYTES : (at + 1) * HASH_BYTES]):
                if tile.level and await log.tile(tile) != expected:
                    self.problems.append(f"{tile.path} is not what follows from the tiles below it")

    async def _compare_edge(self, log: Log, tree: Growing) -> None:
        """The tiles above the leaves' that are not full: proofs stand on them."""
        for tile, expected in tree.tiles():
            try:
                if tile.level and await log.tile(tile) != expected:
                    self.problems.append(f"{tile.path} is not what follows from the tiles below it")
            except StoreMissing as error:
                self.problems.append(error.message)

    async def _look_beyond(self, log: Log, known: int) -> None:
        """Tiles without their checkpoint: it was taken away, or is not written yet."""
        number, width = divmod(self.covered, WIDTH)
        whole = await log.has(Tile(0, number))
        parts = [each for each in await log.parts(number) if each > width]
        if whole or parts:
            self._beyond = True
            reach = (number + 1) * WIDTH if whole else number * WIDTH + max(parts)
            self.problems.append(
                f"a {FOLDER} is missing: the tiles reach to {reach}, and the newest that holds is of size "
                f"{self.covered or 'none'}{'' if known > self.covered else _OR_KILLED}"
            )

    def tells_nothing_of(self, size: int) -> None:
        """Nothing here can be compared with a file whose events are under a checkpoint of that size."""
        if self.checkpoints:
            self.problems.append(
                f"the checkpoint of size {self.covered} cannot tell of this file, which is under one of size "
                f"{size}: give that one, or the folder that they are in"
            )

    # -- as a witness of `service.ledger.verify` ----------------------------------------------------

    async def is_as_signed(self, position: int, chain_hash: bytes) -> bool:
        """Whether one event, out of its turn, is the one in the tiles; true where these do not tell."""
        await self.load(position, position)
        return position > self.told or self._leaves[position] == leaf(chain_hash)

    async def load(self, first: int, last: int) -> None:
        """Have the leaves of the events from `first` to `last` at hand."""
        last = min(last, self.told)
        if self._log is None or first > last or (first in self._leaves and last in self._leaves):
            return
        self._leaves = {}
        for number in range((first - 1) // WIDTH, (last - 1) // WIDTH + 1):
            data = await self._log.tile(Tile(0, number, min(WIDTH, self.covered - number * WIDTH)))
            for at in range(len(data) // HASH_BYTES):
                self._leaves[number * WIDTH + at + 1] = data[at * HASH_BYTES : (at + 1) * HASH_BYTES]

    def check(self, position: int, chain_hash: bytes) -> None:
        """Compare one event, in order. Raises `LedgerCorrupt` for the first that was not signed so."""
        own = leaf(chain_hash)
        if position <= self.told:
            if self._leaves[position] != own:
                raise LedgerCorrupt(position, f"event {position} is not the one that was signed")
            self._held = position
        self._tree.append(own)
        checkpoint = self._due.get(position)
        if checkpoint is None or position <= self.told:
            return
        if self._tree.root() != checkpoint.root:
            first = self._held + 1
            raise LedgerCorrupt(
                first,
                f"event {first}, or one after it up to {position}, is not the one that was signed: "
                f"the root of checkpoint {position} is another",
            )
        self._held = position

    def end(self, position: int) -> None:
        """The ledger ends here. Raises `LedgerCorrupt` when more of it was signed."""
        if position < self.covered:
            raise LedgerCorrupt(
                position + 1,
                f"event {position + 1} is missing: the ledger ends at {position}, and a checkpoint of size "
                f"{self.covered} was signed",
            )


async def _strange(log: Log, sizes: list[int], key: PublicKey) -> str | None:
    """Why a place cannot tell anything of the ledger whose key it is: that is not there, or of another.

    None where it has something of the ledger, be it damaged or taken away in part.
    """
    if sizes:
        try:
            newest = read_note(await log.note(sizes[-1]) or "").checkpoint
        except NotACheckpoint:
            return None
        return None if newest.origin == key.name else _of_another(log, [id_in(newest.origin)], key)
    folders = await log.place.folders()
    if folders is None:
        return f"{log.place} is not there"
    if FOLDER in folders or "tile" in folders or id_in(key.name) in folders:
        return None
    others = [each for each in folders if _is_id(each)]
    return _of_another(log, others, key) if others else None


def _of_another(log: Log, others: list[str], key: PublicKey) -> str:
    said = f"the ledger {others[0]}" if len(others) == 1 else f"the ledgers {', '.join(others)}"
    return f"the checkpoints at {log.place} are of {said}, and what is verified is of {id_in(key.name)}"


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
