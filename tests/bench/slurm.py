"""How many jobs a second Slurm's `sbatch` takes, where this machine has one that answers.

Its jobs are held, so that nothing runs, and cancelled when they have been counted. `sbatch` takes a process
for each job, as a person's loop over it does; as many at once as the requests have connections.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from asyncio.subprocess import DEVNULL, PIPE

_SBATCH = ("sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true")


async def why_not() -> str | None:
    """Why it cannot be compared with, or None where it can."""
    if shutil.which("sbatch") is None:
        return "Slurm is not installed"
    _, status = await _told("scontrol", "ping")
    return None if status == 0 else "Slurm is installed, and slurmctld does not answer"


async def rate(jobs: int, at_once: int) -> float:
    """Submit so many; how many a second. Raises `RuntimeError` where one was refused."""
    places, taken = asyncio.Semaphore(at_once), list[str]()

    async def submit() -> int:
        async with places:
            told, status = await _told(*_SBATCH)
        taken.extend([told.split(";")[0].strip()] if not status else [])
        return status

    began = time.perf_counter()
    refused = {*await asyncio.gather(*(submit() for _ in range(jobs)))} - {0}
    took_s = time.perf_counter() - began
    await _told("scancel", *taken)
    if refused:
        raise RuntimeError(f"sbatch ended with status {min(refused)}")
    return jobs / took_s


async def _told(*command: str) -> tuple[str, int]:
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    told, _ = await process.communicate()
    return told.decode(), process.returncode or 0
