"""What a run asks its engine for: each call costs a node's processors about as much as it costs us."""

from __future__ import annotations

from service.supervisor.names import JOB, LEDGER, RUN
from tests.supervisor.lab import DONE
from tests.supervisor.world import World


async def test_a_run_that_ended_is_found_by_its_id_and_its_log_is_read_once(
    on_fake: World,
) -> None:
    async with on_fake.supervised():
        await on_fake.end(await on_fake.submit(DONE))
    calls = on_fake.fake.calls
    # Right before it is made: an older supervisor may have made it.
    assert calls.count(("list", ",".join((LEDGER, JOB, RUN)))) == 1
    # After its start, as it runs, as it has ended, and before it is put away.
    assert 3 <= [name for name, _ in calls].count("find") <= 4
    assert [name for name, _ in calls].count("logs") == 1
