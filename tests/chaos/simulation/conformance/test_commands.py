"""The same commands through the product's writer on Postgres and on the simulation's: the same ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from random import Random
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest

from service.domain import commands as cmd
from service.domain.commands import Submission
from service.errors import Rejected
from service.ledger.commit import Receipt
from service.ledger.leases import nobody_knows
from tests.chaos.simulation import postgres, statements
from tests.chaos.simulation.conformance.grounds import Fake, Ground, Real, State
from tests.support import jobs
from tests.support.jobs import ENGINE, NODE, PRICES, PROJECT

STEPS = 50


class Commands:
    """Commands by a seed: all that a job goes through, orders of users, repeats, stale epochs, nonsense."""

    def __init__(self, seed: int, row: Callable[[str, str], Any] = lambda *_: None) -> None:
        """`row` finds a row of a fold: mostly a job is told what comes next for it."""
        self.chance, self._row = Random(seed), row
        self.epoch = 1
        self._jobs = [UUID(int=self.chance.getrandbits(128)) for _ in range(5)]
        self._sent: list[Submission] = []

    def first(self) -> list[Submission]:
        return [
            self._submission(cmd.SetPrices(prices=PRICES, currency="EUR")),
            self._submission(cmd.CreateProject(project=PROJECT, name="Vision", cpu=3, gpu=0)),
        ]

    def batch(self, now: datetime) -> list[Submission]:
        """What comes at once, in this order; `now` is about the database's time."""
        return [self._next(now) for _ in range(self.chance.choice((1, 1, 2, 6)))]

    def _next(self, now: datetime) -> Submission:
        chance = self.chance
        if self._sent and chance.random() < 0.25:
            before = chance.choice(self._sent)
            other = chance.random() < 0.3
            return Submission(
                id=before.id,
                command=before.command,
                actor="test",
                digest=b"other" if other else before.digest,
            )
        made = self._submission(self._command(now))
        self._sent.append(made)
        return made

    def _submission(self, command: cmd.Command) -> Submission:
        digest = self.chance.choice((None, b"digest"))
        return Submission(
            id=UUID(int=self.chance.getrandbits(128)), command=command, actor="test", digest=digest
        )

    def _command(self, now: datetime) -> cmd.Command:
        chance, job = self.chance, self.chance.choice(self._jobs)
        epoch = self.epoch - (chance.random() < 0.1)
        of: dict[str, Any] = {"project": PROJECT, "engine": ENGINE, "epoch": epoch, "job": job, "run": 1}
        found = self._row("status", str(job))
        if found is not None and (found.deleted or str(found.state) == "ERROR") and chance.random() < 0.5:
            self._jobs.remove(job)
            self._jobs.append(UUID(int=chance.getrandbits(128)))
        if found is not None and chance.random() < 0.6:
            of["run"] = found.run
            return self._likely(str(found.state), of, now)
        of["run"] = chance.choice((1, 1, 1, 2))
        some: list[Callable[[], cmd.Command]] = [
            lambda: jobs.submit(job, units=chance.randint(1, 2)),
            lambda: jobs.submit(job, timeout_auto_restart=True),
            lambda: jobs.submit(job),
            lambda: jobs.submit(job),
            lambda: cmd.PlaceRun(**of, node=NODE),
            lambda: cmd.PlaceRun(**of, node=NODE),
            lambda: jobs.prepared(**of),
            lambda: jobs.prepared(**of),
            lambda: jobs.started(now, **of),
            lambda: jobs.started(now, **of),
            lambda: jobs.exited(now, code=chance.choice((0, 1)), **of),
            lambda: jobs.timeout(**of),
            lambda: jobs.finalize(**of),
            lambda: jobs.finalize(**of),
            lambda: jobs.abort(**of),
            lambda: jobs.fail(**of),
            lambda: jobs.note(**of),
            lambda: jobs.kill(job=job),
            lambda: jobs.start(job=job),
            lambda: jobs.delete(job=job, force=chance.random() < 0.5),
            lambda: jobs.label("team", chance.choice(("a", "b")), job=job),
            lambda: jobs.edit(job=job, timeout=chance.randint(60, 90)),
            lambda: cmd.SetQuota(project=PROJECT, cpu=chance.randint(1, 4), gpu=0),
            self._token,
            self._token,
            self._token,
            lambda: cmd.SetQuota(project="nowhere", cpu=1, gpu=0),
        ]  # fmt: skip
        return chance.choice(some)()

    def _token(self) -> cmd.Command:
        """There are two hashes for four tokens: what breaks the unique index is tried alone."""
        return cmd.CreateToken(
            project=PROJECT,
            token_id=str(self.chance.randint(1, 4)),
            name="t",
            role="administrator",
            sha256=self.chance.choice(("aa", "bb")) * 32,
        )

    def _likely(self, state: str, of: dict[str, Any], now: datetime) -> cmd.Command:
        """What a supervisor would say of a job in a state."""
        match state:
            case "QUEUED":
                return cmd.PlaceRun(**of, node=NODE)
            case "INITIALIZING":
                return jobs.prepared(**of)
            case "PENDING":
                return jobs.started(now, **of)
            case "FINALIZING":
                return jobs.finalize(**of)
            case "DONE" | "FAILED" | "INTERRUPTED":
                return jobs.start(job=of["job"])
            case _:
                return jobs.exited(now, code=self.chance.choice((0, 1)), **of)


async def _answers(writer: Any, batch: list[Submission]) -> list[Any]:
    return await asyncio.gather(*(writer.submit(each) for each in batch), return_exceptions=True)


def _plain(answer: Any) -> Any:
    """An answer as it can be compared with another's."""
    if isinstance(answer, Receipt):
        return answer.events, answer.position, answer.repeated
    return type(answer), answer.message if isinstance(answer, Rejected) else ""


async def side_by_side(real: Real, fake: Fake, seed: int, steps: int = STEPS) -> dict[str, int]:
    """Raises `AssertionError` at the first difference; how much there was of what."""
    commands = Commands(seed, fake.server.row)
    counts = {"done": 0, "repeated": 0, "refused": 0, "failed": 0}
    async with real.ledger() as ledger, fake.ledger() as simulated:
        for step in range(steps):
            if step % 8 == 5:
                gone = (lambda _: True) if commands.chance.random() < 0.5 else nobody_knows
                leases = [
                    await each.take_lease(ENGINE, f"h/{step}", 600, gone=gone) for each in (ledger, simulated)
                ]
                assert len({each and (each.epoch, each.unfenced) for each in leases}) == 1, leases
                commands.epoch += leases[0] is not None
            batch = commands.batch(await ledger.now()) if step else commands.first()
            if step == 0:
                assert await ledger.take_lease(ENGINE, "h/0", 600)
                assert await simulated.take_lease(ENGINE, "h/0", 600)
            told = await _answers(ledger._writer, batch)
            state = await real.state()
            with patch.object(fake.server, "clock", _clock_of(state, fake)):
                said = await _answers(simulated._writer, batch)
            for one, other, asked in zip(told, said, batch, strict=True):
                assert _plain(other) == _plain(one), (seed, step, asked.command)
                counts[_kind(one)] += 1
            assert await fake.state() == state, (seed, step, [each.command for each in batch])
            await _same_reads(ledger, simulated, commands)
    return counts


def _clock_of(state: State, fake: Fake) -> Callable[[], datetime]:
    """What the database's clock says is no difference: each commit is at the time of the real one."""

    def clock() -> datetime:
        moment: datetime = state.events[min(fake.server.position, len(state.events) - 1)][7]
        return moment

    return clock


def _kind(answer: Any) -> str:
    if isinstance(answer, Receipt):
        return "repeated" if answer.repeated else "done"
    return "refused" if isinstance(answer, Rejected) else "failed"


async def _same_reads(ledger: Any, simulated: Any, commands: Commands) -> None:
    job = commands.chance.choice(commands._jobs)
    sent = commands.chance.choice(commands._sent or commands.first())
    for read in (
        lambda of: of.recalled(sent.id, sent.digest),
        lambda of: of.find_job(job),
        lambda of: of.project(PROJECT),
        lambda of: of.token_by_hash("aa" * 32),
        lambda of: _head(of),
        lambda of: _live(of),
        lambda of: _now_of(of, job),
    ):
        assert await read(simulated) == await read(ledger)


async def _head(of: Any) -> Any:
    found = await of.head()
    return found.epoch, found.position, found.hash


async def _live(of: Any) -> list[Any]:
    return sorted(await of.live_jobs(), key=lambda job: str(job.id))


async def _now_of(of: Any, job: UUID) -> Any:
    found = await of.job_now(job)
    return found and found[0]


@pytest.mark.parametrize("seed", range(3))
async def test_the_same_commands_make_the_same_ledger(real: Real, fake: Fake, seed: int) -> None:
    counts = await side_by_side(real, fake, seed)
    assert min(counts["done"], counts["refused"]) > 20, counts
    assert counts["repeated"] > 2, counts


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_of_unknown_outcome_is_found_again_or_done(ground: Ground, when: str) -> None:
    made = Commands(1)
    async with ground.writer() as writer:
        for submission in made.first():
            await writer.submit(submission)
        for number in range(3):
            ground.lose(when)
            wanted = made._submission(cmd.SetQuota(project=PROJECT, cpu=number + 1, gpu=0))
            receipt = await writer.submit(wanted)
            assert receipt.repeated == (when == "after")
            assert [event.command_id for event in receipt.events] == [wanted.id]
            assert receipt.position == 3 + number
    state = await ground.state()
    assert [each[0] for each in state.events] == [1, 2, 3, 4, 5]
    assert len(state.commands) == 5


async def test_a_commit_that_is_late_is_waited_for(fake: Fake) -> None:
    """The lock is kept as long, which the real one's is too: `tests/chaos/points` kills Postgres there."""
    made = Commands(1)
    async with fake.writer() as writer:
        for submission in made.first():
            await writer.submit(submission)
        fake.lose("late")
        receipt = await writer.submit(made._submission(cmd.SetQuota(project=PROJECT, cpu=1, gpu=0)))
        assert receipt.repeated


# -- the test of the test -------------------------------------------------------------------------------


@contextmanager
def rows_of_a_refused_append_stay() -> Iterator[None]:
    """What a statement wrote before it failed is there after all."""
    fold = postgres.Postgres._fold

    def early(self: Any, changes: Any, rows: Any) -> None:
        self.commands.update(changes.commands)
        fold(self, changes, rows)

    with patch.object(postgres.Postgres, "_fold", early):
        yield


@contextmanager
def hashes_of_tokens_may_be_equal() -> Iterator[None]:
    """The index that two tokens of one hash break is not there."""
    with patch.object(postgres, "_TOKENS", "none"):
        yield


@contextmanager
def the_head_is_one_behind() -> Iterator[None]:
    """Who locks the head is told of the position before the last."""
    lock = statements.Statements._take_head

    async def behind(self: Any, changes: Any, args: Any) -> Any:
        [head] = await lock(self, changes, args)
        return [postgres.Record(head, at=max(0, head["at"] - 1))]

    with _answered_by("take_head", behind):
        yield


@contextmanager
def commands_are_not_known_again() -> Iterator[None]:
    """A command that was carried out is not found by its id."""

    async def none(_self: Any, _changes: Any, _args: Any) -> list[Any]:
        return []

    with patch.object(statements.Statements, "_known_commands", none):
        yield


@contextmanager
def epochs_are_the_first() -> Iterator[None]:
    """A lease that was taken again has the epoch it had."""

    async def first(_self: Any, _changes: Any, args: Any) -> list[Any]:
        return [postgres.Record(engine=each, epoch=1) for each in args[0]]

    with _answered_by("epochs", first):
        yield


def _answered_by(name: str, work: Any) -> AbstractContextManager[Any]:
    statement = getattr(statements._LEDGER, name)
    return patch.dict(statements.STATEMENTS, {statement: (work, name)})


@pytest.mark.parametrize(
    "plant",
    [
        rows_of_a_refused_append_stay,
        hashes_of_tokens_may_be_equal,
        the_head_is_one_behind,
        commands_are_not_known_again,
        epochs_are_the_first,
    ],
    ids=lambda plant: plant.__name__,
)
async def test_a_planted_difference_is_found(
    real: Real, fake: Fake, plant: Callable[[], AbstractContextManager[None]]
) -> None:
    with plant(), pytest.raises(AssertionError):
        await side_by_side(real, fake, 0)
