"""The bootstrap, against a tiny clone whose project builds itself, so that no registry is needed."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from service.local.environment import Environment, clone_around

ROOT = Path(__file__).parents[2]

_BACKEND = """
import zipfile
from pathlib import Path

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory, name), "w") as wheel:
        wheel.writestr("tiny.pth", str(Path.cwd()))
        wheel.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n")
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    return name
"""
_ENSURE = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from service.local.environment import Environment, ensure
print(ensure(Environment(Path(sys.argv[2])), "run"), flush=True)
"""


@pytest.fixture
def clone(tmp_path: Path) -> Environment:
    (tmp_path / "service").mkdir()
    for name in ("requirements-pip.lock", "requirements.lock", "requirements-dev.lock"):
        (tmp_path / "service" / name).write_text("# nothing is needed\n")
    (tmp_path / "backend.py").write_text(_BACKEND)
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "tiny"\nversion = "1"\n'
    )
    return Environment(tmp_path)


def _pretend_installed(clone: Environment, kind: str) -> None:
    clone.python.parent.mkdir(parents=True, exist_ok=True)
    clone.python.touch(mode=0o755)
    clone.stamp.write_text(json.dumps(clone.expected(kind, "3.11.0")))


async def _begin(clone: Environment) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _ENSURE,
        str(ROOT),
        str(clone.root),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_two_at_once_make_it_once_and_both_find_it_ready(clone: Environment) -> None:
    runs = [await _begin(clone) for _ in range(2)]
    said = [await run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert sum(b"Making" in stderr for _, stderr in said) == 1
    assert clone.is_ready("run") and not clone.is_ready("dev")

    again = await _begin(clone)
    assert await again.communicate() == (b"False\n", b""), "a second run has nothing to do and says nothing"


async def test_one_that_was_killed_half_way_is_made_anew(clone: Environment) -> None:
    killed = await _begin(clone)
    assert killed.stderr is not None
    while b"Installing" not in await killed.stderr.readline():
        pass
    killed.kill()
    await killed.communicate()
    assert not clone.is_ready("run")
    remnant = clone.folder / "remnant"
    remnant.touch()

    run = await _begin(clone)
    _, stderr = await run.communicate()
    assert run.returncode == 0, stderr
    assert clone.is_ready("run")
    assert not remnant.exists(), "what was half done was not built upon"


async def test_one_that_pip_refused_to_fill_is_kept_and_filled_by_the_next_run(clone: Environment) -> None:
    lock = clone.lock_file("run")
    lock.write_text("no-hash-is-given==1\n")
    refused = await _begin(clone)
    _, stderr = await refused.communicate()
    assert refused.returncode != 0 and b"Misconfigured: pip install failed: " in stderr
    kept = clone.folder / "kept"
    kept.touch()

    lock.write_text("# nothing is needed\n")
    run = await _begin(clone)
    await run.communicate()
    assert clone.is_ready("run") and kept.exists()


def test_ready_means_these_locks_this_place_and_enough_packages(clone: Environment, tmp_path: Path) -> None:
    assert not clone.is_ready("run"), "nothing is there"
    _pretend_installed(clone, "run")
    assert clone.is_ready("run") and not clone.is_ready("dev")
    _pretend_installed(clone, "dev")
    assert clone.is_ready("run") and clone.is_ready("dev")

    clone.lock_file("dev").write_text("# another version\n")
    assert not clone.is_ready("run"), "the lock files changed"

    _pretend_installed(clone, "dev")
    clone.python.unlink()
    clone.python.symlink_to("/nonexistent/python3")
    assert not clone.is_ready("run"), "its Python was uninstalled"


def test_an_environment_that_was_moved_is_not_ready(clone: Environment, tmp_path: Path) -> None:
    _pretend_installed(clone, "run")
    moved = Environment(tmp_path / "elsewhere")
    shutil.copytree(clone.root, moved.root, ignore=shutil.ignore_patterns("elsewhere"))
    assert clone.is_ready("run") and not moved.is_ready("run")


def test_a_stamp_that_cannot_be_read_is_none(clone: Environment) -> None:
    _pretend_installed(clone, "run")
    for text in ("", "{", "[]"):
        clone.stamp.write_text(text)
        assert not clone.is_ready("run")


def test_an_installed_package_is_no_clone(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    assert clone_around(tmp_path / "service") is None
    assert clone_around(ROOT / "service") == Environment(ROOT)


def test_the_bootstrap_imports_nothing_but_the_standard_library() -> None:
    script = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1]); import service.__main__\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(tops - set(sys.stdlib_module_names) - {'service'}))"
    )
    command = [sys.executable, "-I", "-S", "-c", script, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def _pins(name: str) -> dict[str, str]:
    text = (ROOT / "service" / name).read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ]+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("name", "at_least"),
    [("requirements-pip.lock", 1), ("requirements.lock", 40), ("requirements-dev.lock", 80)],
)
def test_a_lock_names_versions_and_hashes_and_no_host(name: str, at_least: int) -> None:
    text = (ROOT / "service" / name).read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    blocks = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(_pins(name)) >= at_least
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block


def test_the_dev_lock_holds_all_of_the_run_lock_at_the_same_versions() -> None:
    run, dev = _pins("requirements.lock"), _pins("requirements-dev.lock")
    assert run.items() <= dev.items()


def test_what_installed_this_environment_is_locked_too() -> None:
    assert {"pip": metadata.version("pip")} == _pins("requirements-pip.lock")
