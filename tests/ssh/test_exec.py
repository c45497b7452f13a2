"""Commands and shells by SSH, with the real client, in a real container."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import pytest

from service.domain.ssh_keys import read_key
from service.errors import Unavailable
from service.supervisor.engine import exec as exec_module
from tests.ssh.client import finished
from tests.ssh.house import House
from tests.ssh.terminal import Terminal
from tests.support.waiting import until

BIG = 3_000_000


async def test_a_command_has_its_streams_and_its_exit_status(house: House) -> None:
    said = await house.client.ssh("echo out; echo err >&2; id -u; id -G; exit 3")
    assert (said.code, said.out, said.err) == (3, b"out\n42420\n42420\n", b"err\n")
    said = await house.client.ssh("printf '%s.' \"$0\" 'a  b' é; kill -9 $$")
    assert (said.code, said.out.decode()) == (137, "/bin/sh.a  b.é.")
    assert (await house.client.ssh("no-such-program")).code == 127
    assert (await house.client.ssh("true")).code == 0


async def test_input_goes_to_its_end_and_output_is_not_lost(house: House) -> None:
    data = os.urandom(BIG)
    said = await house.client.ssh("cat; echo over >&2; exit 7", stdin=data)
    assert (said.code, said.err) == (7, b"over\n")
    assert hashlib.sha256(said.out).digest() == hashlib.sha256(data).digest()
    # One that reads nothing takes nothing away from how it ends.
    assert (await house.client.ssh("exit 4", stdin=data)).code == 4


async def test_input_that_a_command_never_reads_does_not_hide_its_end(house: House) -> None:
    text = "head -c 300000 /dev/zero; exit 4"
    async with house.gateway.parts.execs.open(house.container, ("sh", "-c", text), stdin=True) as running:

        async def feed() -> None:
            while True:
                await running.write(b"x" * 65536)

        feeding = asyncio.create_task(feed())
        async with asyncio.timeout(20):
            heard = [len(each.data) async for each in running.output()]
            assert (sum(heard), await running.exit_code()) == (300_000, 4)
        feeding.cancel()


async def test_input_over_a_line_that_has_ended_is_refused_in_our_words(house: House) -> None:
    async with house.gateway.parts.execs.open(house.container, ("sh", "-c", "exit 4"), stdin=True) as running:
        assert isinstance(running, exec_module.RunningExec)
        running._abort()
        await until(lambda: running._transport() is None)
        with pytest.raises(Unavailable):
            await running.write(b"x")


async def test_who_takes_the_output_slowly_has_it_whole(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_module, "_SILENT_S", 0.01)
    execs, text = house.gateway.parts.execs, "read line; head -c 250000 /dev/zero"
    async with execs.open(house.container, ("sh", "-c", text), stdin=True) as running:
        await running.write(b"go\n")
        heard = 0
        async for each in running.output():
            if heard == 0:
                await until(lambda: house.has_ended("head -c"))
                for _ in range(3):
                    await house.inside("true")  # a while in which nobody asks for more
            heard += len(each.data)
        assert (heard, await running.exit_code()) == (250_000, 0)


async def test_every_session_is_in_the_ledger_with_its_key_and_sealed_words(house: House) -> None:
    await house.client.ssh("echo s3cret-word")
    await house.client.ssh(options=("-tt",), stdin=b"exit\n")
    actor = f"ssh:{read_key('', house.client.key.public).fingerprint}"
    assert await house.opened() == [("command", ["echo s3cret-word"], actor), ("shell", [], actor)]
    async with house.yard.ledger.pool.acquire() as connection:
        query = "SELECT count(*) FROM events e WHERE e::text LIKE '%s3cret-word%'"
        assert await connection.fetchval(query) == 0


async def test_a_terminal_has_its_name_its_size_and_what_becomes_of_it(house: House) -> None:
    async with Terminal.of(house.client, columns=101, rows=33) as terminal:
        await terminal.hear("$ ")
        await terminal.say("stty size; echo $TERM. $LANG $LC_TIME $SECRET.\n")
        await terminal.hear("33 101\r\nxterm-ours. C.UTF-8 C .\r\n")
        terminal.resize(columns=77, rows=22)
        await terminal.say("until [ \"$(stty size)\" = '22 77' ]; do :; done; echo res''ized\n")
        await terminal.hear("resized")
        await terminal.say("sleep 1000\n")
        await until(lambda: house.runs("sleep 1000"))
        await terminal.say("\x03")  # Ctrl-C
        await terminal.say("echo 'interr''upted'; exit 5\n")
        await terminal.hear("interrupted")
        assert await terminal.end() == 5


async def test_a_terminal_for_one_command_knows_its_size_at_once(house: House) -> None:
    async with Terminal.of(house.client, "stty size; test -t 0 && exit 9", columns=91, rows=41) as terminal:
        await terminal.hear("41 91")
        assert await terminal.end() == 9


async def test_what_a_client_that_is_killed_has_begun_is_ended(house: House) -> None:
    process = await house.client.start("ssh", house.client.at, "sleep 1001 & sleep 1002")
    await until(lambda: house.runs("sleep 1001"))
    await until(lambda: house.runs("sleep 1002"))
    process.kill()
    await finished(process)

    async def gone() -> bool:
        return not await house.runs("sleep 100")

    await until(gone)


async def test_one_connection_carries_several_sessions_up_to_a_bound(house: House) -> None:
    path = house.client.home / "master"
    options = ("-o", f"ControlPath={path}")
    master = await house.client.start("ssh", *options, "-M", "-N", house.client.at)
    try:
        await until(path.exists)
        running = [
            await house.client.start("ssh", *options, house.client.at, f"echo {number}; cat")
            for number in range(10)
        ]
        for number, process in enumerate(running):
            assert process.stdout is not None
            assert await process.stdout.readline() == f"{number}\n".encode()
        one_more = await house.client.ssh("true", options=(*options, "-o", "ProxyCommand=false"))
        assert one_more.code != 0
        ends = await asyncio.gather(*(finished(process) for process in running))
        assert [said.code for said in ends] == [0] * 10
        assert (await house.client.ssh("exit 3", options=options)).code == 3
    finally:
        master.terminate()
        await finished(master)


@pytest.mark.parametrize("later", [0, 3])
async def test_signals_reach_the_command(house: House, monkeypatch: pytest.MonkeyPatch, later: int) -> None:
    """OpenSSH's client sends none, others do. The engine may know the process a moment later than its output
    is here."""
    inspected = exec_module.RunningExec._inspected

    async def noted_later(self: exec_module.RunningExec) -> Any:
        nonlocal later
        found, later = await inspected(self), later - 1
        return found if later < 0 else found | {"Running": False, "Pid": 0, "ExitCode": None}

    monkeypatch.setattr(exec_module.RunningExec, "_inspected", noted_later)
    async with house.connected() as connection:
        text = "trap 'echo hup; exit 6' HUP; echo ready; while :; do sleep 0.05; done"
        process = await connection.create_process(text)
        assert await process.stdout.readline() == "ready\n"
        process.send_signal("HUP")
        assert await process.stdout.readline() == "hup\n"
        assert (await process.wait()).exit_status == 6
