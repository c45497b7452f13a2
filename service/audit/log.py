"""One ledger's checkpoints and tiles at a place: `checkpoint/<size>` and `tile/<level>/<number>`."""

from __future__ import annotations

import re
from collections import OrderedDict
from uuid import UUID

from service.audit.places import Place
from service.domain import merkle
from service.domain.merkle import HASH_BYTES, WIDTH, Tile
from service.errors import CheckpointRefused, StoreMissing

_SIZE = re.compile(r"[0-9]{20}")
#: Full tiles are remembered; of 8 KiB each.
MOST_KEPT = 1024
MOST_WORKED_OUT = 64
FOLDER = "checkpoint"


class Log:
    """Below `folder` of a place: by default that of the ledger's id."""

    def __init__(self, place: Place, folder: str) -> None:
        self.place = place
        self._base = f"{folder}/" if folder else ""
        self._kept: OrderedDict[Tile, bytes] = OrderedDict()
        self._inner: OrderedDict[Tile, list[list[bytes]]] = OrderedDict()

    @classmethod
    def of(cls, place: Place, ledger_id: UUID) -> Log:
        return cls(place, str(ledger_id))

    @classmethod
    async def found(cls, place: Place, ledger_id: UUID) -> Log:
        """Where a ledger's are: in the folder of its id, or right there."""
        own = cls.of(place, ledger_id)
        return own if await own.sizes() else cls(place, "")

    def name(self, size: int) -> str:
        """Of the checkpoint of a size."""
        return f"{self._base}{FOLDER}/{size:020d}"

    async def sizes(self, after: int = 0) -> list[int]:
        """Of the checkpoints that are there, in order."""
        names = await self.place.names(self._base + FOLDER, f"{after:020d}" if after else "")
        return [int(name) for name in names if _SIZE.fullmatch(name)]

    async def note(self, size: int) -> str | None:
        """The text of a checkpoint as it is there; what is no text reads as other text."""
        data = await self.place.read(self.name(size))
        return None if data is None else data.decode(errors="replace")

    async def keep_note(self, size: int, text: str) -> bool:
        """Whether it is the one that is there now: another process may have been first."""
        return await self.place.write(self.name(size), text.encode())

    async def keep_tile(self, tile: Tile, data: bytes) -> None:
        """Raises `CheckpointRefused` when there is another."""
        if not await self.place.write(self._base + tile.path, data):
            raise CheckpointRefused(
                f"{self.place}: {self._base}{tile.path} is there and holds something else"
            )

    async def tile(self, tile: Tile) -> bytes:
        """The hashes of a tile: a part may have been put away once the whole was there.

        Raises `StoreMissing`, also for one that is not as long as it has to be.
        """
        whole = tile._replace(width=WIDTH)
        if (kept := self._kept.get(whole)) is not None:
            return kept[: tile.width * HASH_BYTES]
        data = await self.place.read(self._base + tile.path)
        if data is None and tile != whole:
            data = await self.place.read(self._base + whole.path)
            data = None if data is None else data[: tile.width * HASH_BYTES]
        if data is None or len(data) != tile.width * HASH_BYTES:
            what = "is missing" if data is None else "is not as long as it has to be"
            raise StoreMissing(f"{self.place}: {self._base}{tile.path} {what}")
        if tile == whole:
            self._kept[whole] = data
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return data

    async def has(self, tile: Tile) -> bool:
        """Whether there is anything under a tile's name."""
        return await self.place.read(self._base + tile.path) is not None

    async def parts(self, number: int) -> list[int]:
        """How wide the parts of a tile of leaves are that are there."""
        folder = Tile(0, number, 1).path.rpartition("/")[0]
        return [int(name) for name in await self.place.names(self._base + folder) if name.isdecimal()]

    async def path(self, index: int, size: int) -> list[bytes]:
        """The audit path of a leaf in the tree of a size. Raises `StoreMissing`."""
        steps = []
        for nodes in merkle.path_nodes(index, size):
            hashes = [merkle.node_hash(node, await self._rows(merkle.tile_of(node, size))) for node in nodes]
            steps.append(merkle.folded(hashes))
        return steps

    async def _rows(self, tile: Tile) -> list[list[bytes]]:
        """What is in a tile, worked out once for the many proofs that stand on it."""
        rows = self._inner.get(tile)
        if rows is None:
            rows = self._inner[tile] = merkle.inner(await self.tile(tile))
            if len(self._inner) > MOST_WORKED_OUT:
                self._inner.popitem(last=False)
        return rows

    async def tree(self, size: int) -> merkle.Growing:
        """The tree as it was at a size, to be grown. Raises `StoreMissing`."""
        return merkle.Growing(size, {tile: await self.tile(tile) for tile in merkle.edge(size)})
