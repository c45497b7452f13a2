"""Giving up a run: whatever others said of it, and whatever the ledger does with that, all others go on."""

from __future__ import annotations

from typing import Any

import pytest

from service.domain import commands as cmd
from service.domain.shown import said
from service.domain.states import State
from service.errors import ImageUnavailable, Invalid, JobyardError, Unavailable
from service.supervisor.waits import Waits
from tests.supervisor.lab import DONE
from tests.supervisor.world import World


@pytest.mark.parametrize("word", ["no\0way", "no\ud800way", "no\x1b[31mway", "x" * 100_000])
async def test_what_a_registry_says_is_fit_for_the_ledger(on_fake: World, word: str) -> None:
    """Whatever it says: its job alone fails, and nobody begins again for it."""
    async with on_fake.supervised():
        for _ in range(on_fake.settings.pull_attempts):
            on_fake.fake.fail_next(
                "pull", error=ImageUnavailable(f"x cannot be pulled: {word}", passing=True)
            )
        job = await on_fake.submit(DONE, image="elsewhere:1")
        ended = await on_fake.end(job)
        assert (await on_fake.end(await on_fake.submit(DONE))).state is State.DONE
    assert ended.state is State.FAILED
    assert ended.info.message.isprintable()
    assert 0 < len(ended.info.message) < 3000
    assert [event.type for event in await on_fake.events()].count("SupervisorStarted") == 1


def test_what_others_said_keeps_its_words() -> None:
    assert said("Ünï 🎉\n  two\tlines ") == "Ünï 🎉 two lines"
    assert said("a\0b") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("refusal", [Invalid("body", "a text", "another"), Unavailable("the disk is full")])
async def test_what_the_ledger_does_not_take_of_a_run_is_tried_again_after_a_pause(
    on_fake: World, monkeypatch: pytest.MonkeyPatch, refusal: JobyardError
) -> None:
    submit, refused, paused = on_fake.ledger.submit, list[Any](), 0

    async def submitted(command: cmd.Command, **how: Any) -> Any:
        never = isinstance(refusal, Invalid)
        if isinstance(command, cmd.AbortRun) and (never or len(refused) < 5):
            refused.append((command, paused))
            raise refusal
        if isinstance(command, cmd.FailRun) and never and len(refused) < 10:
            refused.append((command, paused))
            raise refusal
        return await submit(command, **how)

    pause = Waits.pause

    async def counted(self: Waits, *given: Any) -> None:
        nonlocal paused
        paused += 1
        await pause(self, *given)

    monkeypatch.setattr(on_fake.ledger, "submit", submitted)
    monkeypatch.setattr(Waits, "pause", counted)
    async with on_fake.supervised():
        for _ in range(100):
            on_fake.fake.fail_next("pull", error=ImageUnavailable("it is not there", passing=False))
        job = await on_fake.submit(DONE, image="elsewhere:1")
        ended = await on_fake.end(job)
    expected = State.ERROR if isinstance(refusal, Invalid) else State.FAILED
    assert (ended.state, ended.info.code == "internal-error") == (expected, expected is State.ERROR)
    assert len(refused) >= 5
    moments = [at for command, at in refused if isinstance(command, cmd.AbortRun)]
    assert len(set(moments)) == len(moments), "it was tried again without a pause"
