"""How `sbatch` is measured: nothing that it was given is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import slurm


@pytest.fixture
def cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's programs, which count: the fourth job is refused. Where the cancelled jobs are written."""
    programs = {
        "sbatch": f"echo >> {tmp_path}/jobs; n=$(wc -l < {tmp_path}/jobs); [ $n != 4 ] && echo $n';cluster'",
        "scancel": f'echo "$@" >> {tmp_path}/cancelled',
        "scontrol": f"[ -e {tmp_path}/up ]",
    }
    for name, does in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "cancelled"


async def test_jobs_are_counted_and_cancelled(cancelled: Path) -> None:
    assert await slurm.rate(3, 1) > 0
    assert cancelled.read_text() == "1 2 3\n"


async def test_those_before_one_that_was_refused_are_cancelled(cancelled: Path) -> None:
    with pytest.raises(RuntimeError, match="status 1"):
        await slurm.rate(4, 1)
    assert cancelled.read_text() == "1 2 3\n"


async def test_it_is_told_why_there_is_nothing_to_compare_with(
    cancelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await slurm.why_not() == "Slurm is installed, and slurmctld does not answer"
    (cancelled.parent / "up").touch()
    assert await slurm.why_not() is None
    (cancelled.parent / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(cancelled.parent))
    assert await slurm.why_not() == "Slurm is not installed"
