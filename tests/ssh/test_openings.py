"""How often something is opened in a job, as each is in the ledger for ever."""

from __future__ import annotations

import asyncssh
import pytest

from service.rate import Rates
from tests.ssh.house import House
from tests.ssh.test_forward import serving
from tests.ssh.test_in_hand import another_job
from tests.unit.test_rate import Clock

WHY = (
    "a job has at most 10 sessions and forwards a second, and 100 at once, opened by SSH; try again after 1 s"
)


async def test_what_is_opened_too_fast_is_refused_and_let_in_again(house: House) -> None:
    clock, other = Clock(), await another_job(house)
    house.gateway.openings = Rates(10, 3, clock)
    async with serving(house, 7000, "exec nc -ll -p 7000 -e cat"), house.connected() as connection:
        for _ in range(2):
            assert (await house.client.ssh("exit 7")).code == 7
        _, writer = await connection.open_connection("localhost", 7000)
        for _ in range(2):  # what is refused counts for nothing
            said = await house.client.ssh("echo not done")
            assert (said.code, said.out, said.err) == (255, b"", f"jobyard: {WHY}\r\n".encode())
        with pytest.raises(asyncssh.ChannelOpenError, match=WHY) as refused:
            await connection.open_connection("localhost", 7001)
        assert refused.value.code == asyncssh.OPEN_RESOURCE_SHORTAGE
        writer.close()
        # What is in the ledger already may be had again, and another job has its own measure.
        _, writer = await connection.open_connection("localhost", 7000)
        writer.close()
        async with house.connected(username=other) as neighbour:
            assert (await neighbour.run("exit 8")).exit_status == 8
        clock.now += 1 / 10
        assert (await house.client.ssh("exit 9")).code == 9
        assert (await house.client.ssh("exit 9")).code == 255
    assert [kind for kind, _, _ in await house.opened()] == ["command"] * 2 + ["forward"] + ["command"] * 2
