"""A part is found again after a kill, and nobody else's process is ever signalled."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.local import processes
from service.local.processes import Process

_BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is not ours; it answers every line, so a test can see that it lives unharmed."""
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    with child:
        yield child
        child.kill()


def _is_unharmed(stranger: subprocess.Popen[bytes]) -> bool:
    assert stranger.stdin is not None and stranger.stdout is not None
    stranger.stdin.write(b"alive?\n")
    return stranger.stdout.readline() == b"alive?\n"


def _start(folder: Path, script: str) -> Process:
    log = folder / "log"
    return processes.start("part", ["/bin/sh", "-c", script], pidfile=folder / "pid", log=log)


async def _said(folder: Path, text: str) -> None:
    async with asyncio.timeout(10):
        while text not in (folder / "log").read_text():
            await asyncio.to_thread(os.sched_yield)


async def test_what_is_started_under_nohup_may_be_hung_up_on(tmp_path: Path) -> None:
    """Else no program in any container could ask for SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        started = _start(tmp_path, "trap 'echo hup' HUP; kill -HUP $$; echo over; exec sleep 1000")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        await _said(tmp_path, "over")
    finally:
        signal.signal(signal.SIGHUP, before)
    await started.stop()
    assert (tmp_path / "log").read_text() == "hup\nover\n"


async def test_a_started_process_is_found_by_its_pidfile_and_stopped(tmp_path: Path) -> None:
    started = _start(tmp_path, "echo up; exec sleep 1000")
    await _said(tmp_path, "up")
    assert processes.adopt("part", tmp_path / "pid") == started
    await started.stop()
    assert not started.is_alive()
    assert processes.adopt("part", tmp_path / "pid") is None


async def test_one_that_ignores_the_request_is_killed_after_the_grace(tmp_path: Path) -> None:
    started = _start(tmp_path, "trap '' TERM; echo up; while :; do sleep 1000; done")
    await _said(tmp_path, "up")
    await started.stop(grace_s=0.2)
    assert not started.is_alive()


async def test_it_outlives_the_run_that_started_it_and_the_next_one_finds_it(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from service.local import processes; "
        "here = Path(sys.argv[1]); "
        "processes.start('part', ['sleep', '1000'], pidfile=here / 'pid', log=here / 'log'); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), cwd=Path(__file__).parents[2]
    )
    assert await killed.wait() == -signal.SIGKILL

    async with asyncio.timeout(10):  # the child records itself, perhaps a moment after we died
        while (found := processes.adopt("part", tmp_path / "pid")) is None:
            await asyncio.to_thread(os.sched_yield)
    await found.stop()
    assert not found.is_alive()


async def test_a_pid_that_was_given_out_again_is_neither_adopted_nor_signalled(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    stat = Path(f"/proc/{stranger.pid}/stat").read_text()
    started = processes.start_time(stranger.pid)
    assert started is not None
    (tmp_path / "pid").write_text(f"{_BOOT}\n{stat.replace(f' {started} ', f' {started - 1} ')}\n")

    assert processes.adopt("part", tmp_path / "pid") is None
    ours_once = Process("part", stranger.pid, started - 1)
    assert ours_once.send(signal.SIGKILL) is False
    await ours_once.stop()
    assert _is_unharmed(stranger)


def test_a_pidfile_of_an_earlier_boot_or_one_half_written_names_nobody(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    stat = Path(f"/proc/{stranger.pid}/stat").read_text()
    pidfile = tmp_path / "pid"
    pidfile.write_text(f"{_BOOT}\n{stat}\n")
    assert processes.adopt("part", pidfile) is not None, "the same file of this boot does name it"

    for text in (f"another-boot\n{stat}\n", "", f"{_BOOT}\n", f"{_BOOT}\n{stat[:20]}"):
        pidfile.write_text(text)
        assert processes.adopt("part", pidfile) is None, text


async def test_a_log_that_has_grown_large_is_set_aside(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        log.truncate(17 * 1024 * 1024)
    started = _start(tmp_path, "echo up")
    assert await started.ended(10)
    assert (tmp_path / "log").read_text() == "up\n"
    assert (tmp_path / "log.1").stat().st_size == 17 * 1024 * 1024


async def test_work_in_a_thread_is_over_when_its_cancelled_caller_goes_on() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert may_end.wait(10)
        ended.set()

    caller = asyncio.create_task(processes.in_thread(work))
    await asyncio.to_thread(begun.wait, 10)
    caller.cancel()
    done, _ = await asyncio.wait([caller], timeout=0.1)
    assert not done, "it waits for the thread"
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_what_cannot_be_recorded_does_not_run(tmp_path: Path) -> None:
    """As on a full disk. Nobody would find it again: neither the next run, nor who is to stop it."""
    (tmp_path / "pid").symlink_to("/dev/full")
    started = _start(tmp_path, f"touch {tmp_path}/ran")
    assert await started.ended(10)
    assert not (tmp_path / "ran").exists()
