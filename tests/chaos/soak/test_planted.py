"""The test of the test: what leaks is seen, and what only goes up and down is not."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from random import Random

import pytest

from tests.chaos.soak.sampling import MIB, Sample, Sampler, grown

LOOKS = 600

#: Asked for so many lines, a process answers each, and keeps something of each answer.
_LEAKS = """
import os, sys
kept = []
for line in sys.stdin:
    if sys.argv[1] == "rss":
        kept.append(bytearray(os.urandom(256 * 1024)))
    if sys.argv[1] == "descriptors":
        kept.append(os.open(os.devnull, os.O_RDONLY))
    print("done", flush=True)
"""


def noisy(leaking: str = "", growth: float = 0.0) -> list[Sample]:
    """An hour of a service: it goes up and down, most in a fault; and one number may grow, over all of it."""
    random = Random(1)
    found = []
    for number in range(LOOKS):
        fault = 3 if number % 40 < 3 else 1
        values = {
            "rss": int((120 + random.uniform(-2, 2)) * MIB),
            "descriptors": 60 * fault + random.randrange(4),
            "tasks": 40 * fault + random.randrange(6),
            "connections": 12 + random.randrange(2),
        }
        if leaking:
            values[leaking] += int(growth * number / LOOKS)
        found.append(Sample(**values))
    return found


def test_what_goes_up_and_down_is_flat() -> None:
    assert grown(noisy()) == []


@pytest.mark.parametrize(
    ("name", "growth"), [("rss", 34 * MIB), ("descriptors", 8), ("tasks", 8), ("connections", 4)]
)
def test_what_grows_is_told(name: str, growth: float) -> None:
    (told,) = grown(noisy(name, growth))
    assert told.startswith(f"{name} grew")


def test_only_memory_may_grow_with_the_bill_and_no_more_than_by_its_lines() -> None:
    assert grown(noisy("rss", 34 * MIB), jobs=5000)
    assert grown(noisy("rss", 34 * MIB), jobs=9000) == []
    assert grown(noisy("rss", 50 * MIB), jobs=9000)
    assert grown(noisy("tasks", 8), jobs=100_000)


@pytest.mark.parametrize("leak", ["rss", "descriptors", "nothing"])
async def test_a_process_that_leaks_is_seen(leak: str) -> None:
    async def of_none() -> int:
        return 1

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _LEAKS, leak, stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        sampler = Sampler(process.pid, of_none, of_none)
        for _ in range(200):
            process.stdin.write(b"work\n")
            assert (await process.stdout.readline()).strip() == b"done"
            await sampler.look()
    finally:
        process.kill()
        await process.wait()
    assert [told.split()[0] for told in grown(sampler.samples)] == ([leak] if leak != "nothing" else [])
