"""What the command line is started with: streams that are closed, or that do not know every letter."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

_LINE = """
import sys
from service import __main__ as way_in
way_in._enter_environment = lambda: None
sys.argv = ["jobyard", *sys.argv[1:]]
way_in.main()
"""
_PRINTS = """
import sys
from service import __main__ as way_in
way_in._open_streams()
print("caf\\u00e9 \\u2026", flush=True)
"""


def run(redirected: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = f"{shlex.join([sys.executable, '-c', _LINE, *words])} {redirected}"
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_nowhere(closed: str, tmp_path: Path) -> None:
    key, proof = tmp_path / "key", tmp_path / "proof"
    key.write_text("no key")
    proof.write_text("no proof")
    done = run(closed, "audit", "check", str(proof), "--key", str(key))
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    done = run(closed, "job", "--help")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    done = run(closed, "project", "list", "--url", "http://127.0.0.1:9", "--token", "x")
    assert done.returncode == 6 and "Traceback" not in done.stderr, done.stderr


def test_a_letter_that_the_terminal_does_not_know_is_escaped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PRINTS],
        capture_output=True,
        check=True,
        env={"PYTHONIOENCODING": "latin-1"},
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == b"caf\xe9 \\u2026\n"
