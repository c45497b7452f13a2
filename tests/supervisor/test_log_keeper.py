"""Keeping the output of real containers: nothing lost while we keep up, a marked gap when we do not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

from service.supervisor.engine.protocol import Mount
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.logs.kept import EARLY, LOST
from service.supervisor.logs.reader import LogReader
from tests.supervisor.lab import Behaviour, Lab, shell
from tests.support.engine.scripted import Script
from tests.support.waiting import gathered

STEPS = 20
# A megabyte a step, each when the test allows it.
TALKS_IN_STEPS = shell(
    f"n=1; while [ $n -le {STEPS} ]; do"
    " until [ -e /steps/$n ]; do sleep 0.01; done;"
    " i=0; while [ $i -lt 1000 ]; do echo $n $i $FILL; i=$((i+1)); done; n=$((n+1)); done"
)
FILL = "x" * 1000


def step(number: int) -> bytes:
    return b"".join(b"%d %d %s\n" % (number, line, FILL.encode()) for line in range(1000))


class Talker:
    """A real container that prints 20 MB in steps, through engine log files of 1 MB, three at most."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.job, self.container = lab, uuid4(), ""
        self._steps, self._logs = folder / "steps", folder / "logs"
        self._steps.mkdir()
        self._steps.chmod(0o755)
        self.reader = LogReader(self._logs, poll_s=0.05)
        self.keeper = self.new_keeper()

    def new_keeper(self) -> LogKeeper:
        return LogKeeper(self.lab.engine, self._logs, engine_keeps_bytes=2 * 1024**2)

    async def start(self) -> None:
        self.container = await self.lab.started(
            Behaviour(TALKS_IN_STEPS, Script()),
            mounts=(Mount(str(self._steps), "/steps", read_only=True),),
            env=(("FILL", FILL),),
            log_max_size_bytes=1024**2,
            log_max_file=3,
        )

    def allow(self, *steps: int) -> None:
        for number in steps:
            (self._steps / str(number)).touch()

    async def keep_until(self, last: bytes) -> None:
        while await gathered(self.reader.read(self.job, 1, tail=1)) != last:
            await self.keeper.catch_up(self.job, 1, self.container)

    async def restart(self) -> None:
        await self.keeper.close()
        self.keeper = self.new_keeper()

    async def finish(self) -> bytes:
        await self.lab.end(self.container)
        await self.keeper.finish(self.job, 1, self.container)
        await self.lab.engine.remove(self.container)
        return await gathered(self.reader.read(self.job, 1))


async def test_twenty_megabytes_while_files_rotate_and_a_reader_follows(lab: Lab, tmp_path: Path) -> None:
    talker = Talker(lab, tmp_path)
    follower = asyncio.create_task(collect(talker.reader, talker.job))
    async with asyncio.timeout(60):
        await talker.start()
        for number in range(1, STEPS + 1):
            talker.allow(number)
            await talker.keep_until(step(number).splitlines(keepends=True)[-1])
            if number % 5 == 0:
                await talker.restart()
        text = await talker.finish()
        assert text == b"".join(map(step, range(1, STEPS + 1)))
        assert await follower == text


async def test_output_faster_than_us_leaves_a_marked_gap(lab: Lab, tmp_path: Path) -> None:
    talker = Talker(lab, tmp_path)
    async with asyncio.timeout(60):
        await talker.start()
        talker.allow(1)
        await talker.keep_until(step(1).splitlines(keepends=True)[-1])
        talker.allow(*range(2, STEPS + 1))
        before, note, after = (await talker.finish()).partition(b"[jobyard] " + LOST)
    after = after.partition(b"\n")[2]
    assert note
    assert before == step(1)
    assert len(after) > 1024**2
    assert b"".join(map(step, range(2, STEPS + 1))).endswith(after)


async def test_what_is_printed_at_full_speed_is_kept_but_for_holes_that_are_each_told(
    lab: Lab, tmp_path: Path
) -> None:
    """Whatever this machine manages meanwhile: each line in its place, and a note where some are missing."""
    lines, job, keeper = 60_000, uuid4(), LogKeeper(lab.engine, tmp_path, busy_s=0.05)
    prints = f"awk 'BEGIN {{ for (i = 0; i < {lines}; i++) print i, \"{FILL[:500]}\" }}'"
    async with asyncio.timeout(60):
        container = await lab.started(
            Behaviour(shell(prints), Script()), log_max_size_bytes=1024**2, log_max_file=3
        )
        keeper.watch(job, 1, container)
        await lab.end(container)
        await keeper.finish(job, 1, container)
    assert faults(await gathered(LogReader(tmp_path).read(job, 1)), lines) == []


def faults(text: bytes, lines: int) -> list[str]:
    """What is wrong with a log of lines that count, from which some may be missing."""
    found, expected, told = [], 0, False
    for line in text.splitlines():
        if line.startswith(b"[jobyard]"):
            told = EARLY not in line or told
            continue
        number = int(line.split()[0])
        if number < expected:
            found.append(f"{number} is there again after {expected - 1}")
        elif (number > expected) != told and expected:
            found.append(f"{number} after {expected - 1}, and told: {told}")
        expected, told = number + 1, False
    if expected != lines:
        found.append(f"it ends after {expected - 1}")
    return found


def test_the_faults_of_a_log_are_found() -> None:
    note = b"[jobyard] " + LOST + b"\n"
    assert faults(b"0 x\n1 x\n" + note + b"4 x\n", 5) == []
    for broken in (b"0 x\n1 x\n4 x\n", b"0 x\n1 x\n2 x\n3 x\n", b"0 x\n0 x\n1 x\n2 x\n3 x\n4 x\n"):
        assert len(faults(broken, 5)) == 1
    assert len(faults(b"0 x\n1 x\n" + note + b"2 x\n3 x\n4 x\n", 5)) == 1


async def test_a_first_look_that_comes_too_late_is_told(lab: Lab, tmp_path: Path) -> None:
    talker = Talker(lab, tmp_path)
    async with asyncio.timeout(60):
        await talker.start()
        talker.allow(*range(1, STEPS + 1))
        text = await talker.finish()
    kept, note, _ = text.partition(b"[jobyard] " + EARLY)
    assert note
    assert b"".join(map(step, range(1, STEPS + 1))).endswith(kept)


async def collect(reader: LogReader, job: UUID) -> bytes:
    return await gathered(reader.follow(job, 1))
