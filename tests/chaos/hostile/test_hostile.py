"""All attacks at the same time in one yard: each is answered as it must be, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.chaos.hostile import bombs, data, traps, walls
from tests.chaos.hostile.neighbour import Memory, Neighbour, living
from tests.chaos.hostile.place import Attack, Place, at_once
from tests.supervisor.world import MIB
from tests.support.chaos import Chaos

#: How much more the supervisor may hold at any moment: a snapshot of a log and what is being joined.
MOST_RSS_BYTES = 160 * MIB
#: The limit of a volume's files in the long form's last attack.
VERY_MANY = 500_000

ATTACKS: dict[str, Attack] = {
    "forks": bombs.forks,
    "descriptors": bombs.descriptors,
    "memory": bombs.memory,
    "storage": bombs.storage,
    "forks and spins without an end": bombs.restless,
    "log bomb, binary and 10 MB lines": bombs.log,
    "a job's probes of its walls": walls.probes,
    "volume of traps, swapped while pushed": traps.swapped,
    "volume of 1 TiB apparent": traps.sparse,
    "volume too deep": traps.deep,
    "volume of too many files": traps.many,
    "object keys that reach outside": data.object_keys,
    "archives": data.archives,
    "git: links, filters, submodules, hooks": data.repository,
}


@asynccontextmanager
async def watched(neighbour: Neighbour) -> AsyncIterator[None]:
    """While it lasts, the neighbour is looked at, and has to live."""

    async def looking() -> None:
        while True:
            await neighbour.lives()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(looking())
        yield
        task.cancel()


async def test_no_attack_works_and_nobody_else_notices(place: Place, chaos: Chaos) -> None:
    memory = Memory()
    async with place.world.supervised(logs=place.logs), living(place.world) as neighbour:
        place.neighbour = neighbour.address
        async with watched(neighbour):
            counted, wrong = await at_once(ATTACKS, place)
        gap_s = await neighbour.lives()
    assert not wrong, "\n".join(f"{name}: {why}" for name, why in wrong.items())
    if chaos.long:
        place.most_objects = VERY_MANY
        async with place.world.supervised(volume_max_objects=VERY_MANY):
            counted["volume of a million files"] = await traps.many(place)
    more = memory.peak_bytes()
    assert more < MOST_RSS_BYTES, f"the supervisor took {more // MIB} MiB more"
    for attack, counts in counted.items():
        chaos.told(attack, **counts)
    chaos.told(
        "all of these at once",
        neighbour_s_longest_silence=f"{gap_s:.2f} s",
        supervisor_MiB_more=more // MIB,
    )
