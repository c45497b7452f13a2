"""Whether the kernel shows that a holder of a lease is gone. Real processes, and namespaces of the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.supervisor import holders
from service.supervisor.holders import holder_name, is_gone
from tests.support.waiting import until

_SAYS = "from service.supervisor.holders import holder_name; print(holder_name(), flush=True); input()"
_LOOKS_ELSEWHERE = """
import subprocess
from service.supervisor.holders import holder_name, is_gone
subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
name = holder_name()
subprocess.run(["umount", "/proc"], check=True)
print(is_gone(name), is_gone(holder_name()))
"""


@contextmanager
def another(*within: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that lives until its input ends, and its name. `within`: what it is begun by."""
    with subprocess.Popen(
        [*within, sys.executable, "-B", "-c", _SAYS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


def test_a_name_is_one_processs_alone() -> None:
    first, second = holder_name(), holder_name()
    assert first != second
    assert first.rpartition("/")[0] == second.rpartition("/")[0]
    assert first.rpartition("/")[2].startswith(f"{os.getpid()}-")


def test_who_lives_is_not_gone() -> None:
    assert not is_gone(holder_name())
    with another() as (process, name):
        assert not is_gone(name)
        process.send_signal(signal.SIGSTOP)
        assert not is_gone(name), "it may go on"
        process.send_signal(signal.SIGCONT)


async def test_who_was_killed_is_gone_also_before_somebody_collects_it() -> None:
    with another() as (process, name):
        process.kill()
        await until(
            lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        )
        assert is_gone(name), "a zombie does nothing any more"
        process.wait()
        assert is_gone(name)


def test_a_pid_that_was_given_out_again_is_another_process() -> None:
    host, _, process = holder_name().rpartition("/")
    pid, start, chance = process.split("-")
    assert is_gone(f"{host}/{pid}-{int(start) - 1}-{chance}")
    assert not is_gone(f"{host}/{pid}-{start}-{chance}")


@pytest.mark.skipif(os.getuid() != 0, reason="namespaces are root's to make")
def test_a_pid_of_another_namespace_says_nothing() -> None:
    """As of a service in a container of the same image: one machine-id, and pids of its own."""
    with another("unshare", "--pid", "--fork", "--mount-proc") as (process, name):
        assert "-" in name and not is_gone(name)
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        assert not is_gone(name)


@pytest.mark.skipif(os.getuid() != 0, reason="namespaces are root's to make")
def test_who_sees_the_processes_of_others_in_proc_knows_nothing() -> None:
    """Its own pid is 1, and there /proc/1 is another process, of another start."""
    said = subprocess.run(
        ["unshare", "--pid", "--mount", "--fork", sys.executable, "-B", "-c", _LOOKS_ELSEWHERE],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["False", "False"]


def test_of_another_boot_or_machine_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with another() as (process, name):
        process.kill()
        process.wait()
        assert is_gone(name)
        with monkeypatch.context() as other:
            other.setattr(holders, "_machine", lambda: "another")
            assert not is_gone(name)
        (tmp_path / "boot_id").write_text("another\n")
        with monkeypatch.context() as other:
            other.setattr(holders, "_BOOT_ID", tmp_path / "boot_id")
            assert not is_gone(name)
        other.setattr(holders, "_BOOT_ID", tmp_path / "none")
        assert not is_gone(name) and not is_gone(holder_name())


@pytest.mark.parametrize("name", ["", "host", "host/1", "host/99999999-c0ffee", "without-lock:host/1-c0ffee"])
def test_of_a_name_as_others_or_older_versions_make_them_nothing_is_known(name: str) -> None:
    assert not is_gone(name)
    host = holder_name().rpartition("/")[0]
    assert not is_gone(f"{host}/{name.rpartition('/')[2]}")
