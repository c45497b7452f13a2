"""The `test` command: what it runs ends in order when it is stopped, and the tests find the parts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import typer

from service.config.stores import S3Access
from service.errors import Misconfigured
from service.local import bench, check, stopping
from service.local.environment import Environment
from service.local.parts import Parts
from tests.support.waiting import until

_CHILD = """
import sys, time
try:
    open(sys.argv[1], "w").write("up")
    time.sleep(1000)
except KeyboardInterrupt:
    open(sys.argv[1], "w").write("ended in order")
    raise SystemExit(3)
"""


async def test_a_check_that_is_stopped_may_end_in_order(tmp_path: Path) -> None:
    told = tmp_path / "told"
    running = asyncio.create_task(check.run([sys.executable, "-c", _CHILD, str(told)], tmp_path, {}))
    await until(lambda: told.exists() and told.read_text() == "up", what="the child is up")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert told.read_text() == "ended in order"


def test_benchmarks_that_are_stopped_end_before_their_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "told"
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()  # or the other one on the path would be taken
    (tmp_path / "tests" / "bench.py").write_text(_CHILD)

    @asynccontextmanager
    async def parts(**_: object) -> AsyncIterator[None]:
        with stopping.cancelling():
            yield
        assert told.read_text() == "ended in order"

    def stop() -> None:
        while not told.exists() or told.read_text() != "up":
            os.sched_yield()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(bench, "clone_around", lambda _: Environment(tmp_path))
    monkeypatch.setattr(bench, "throwaway_parts", parts)
    monkeypatch.setattr(bench, "variables", lambda _: {})
    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    with pytest.raises(typer.Exit) as left:
        bench.bench([str(told)])
    stopper.join()
    assert left.value.exit_code == 128 + signal.SIGTERM
    assert told.read_text() == "ended in order"
    assert capfd.readouterr().err == ""


async def test_a_check_answers_its_exit_code_and_sees_its_variables(tmp_path: Path) -> None:
    script = "import os; raise SystemExit(int(os.environ['CODE']))"
    assert await check.run([sys.executable, "-c", script], tmp_path, {"CODE": "5"}) == 5


async def test_the_tests_are_compiled_once_and_nothing_is_said_of_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also of one that cannot be: pytest itself says that, as it runs them."""
    (tmp_path / "test_good.py").write_text("def test_it(): assert 1 == 1\n")
    (tmp_path / "test_wrong.py").write_text("def test_it(: assert 1 == 1\n")
    await check._compile(tmp_path, ["-p", "no:asyncio"])
    assert [each.name.split(".")[0] for each in (tmp_path / "__pycache__").iterdir()] == ["test_good"]
    assert capfd.readouterr() == ("", "")


_CONFTEST = """
import os
from pathlib import Path
from tests.support.failures import Failures
def pytest_configure(config):
    if told := os.environ.get("JOBYARD_TEST_FAILED"):
        config.pluginmanager.register(Failures(Path(told)))
"""
_ONLY_ALONE = "def test_{0}():\n    import os\n    assert 'PYTEST_XDIST_WORKER' not in os.environ\n"
_NEVER = "def test_{0}():\n    raise AssertionError\n"


@pytest.mark.parametrize(
    ("bodies", "code", "unsteady"),
    [
        ([_ONLY_ALONE] * 2, 0, 2),
        ([_ONLY_ALONE, _NEVER], 1, 0),
        ([_ONLY_ALONE] * 4, 1, 0),  # too many for an accident
        (["def test_{0}(:"], 1, 0),  # not even collected
    ],
)
async def test_a_few_that_fail_beside_others_are_run_again_alone_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bodies: list[str], code: int, unsteady: int
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # this test's own runs may be split as well
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_fine.py").write_text("def test_fine():\n    pass\n")
    for number, body in enumerate(bodies):
        (tmp_path / f"test_{number}.py").write_text(body.format(number))
    here = {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended, named = await check._tests(tmp_path, ["-p", "no:asyncio"], here)
    assert (ended, sorted(named)) == (code, [f"test_{n}.py::test_{n}" for n in range(unsteady)])


async def test_what_is_to_run_alone_anyway_is_run_once(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_it():\n    print('once', file=open('told', 'a'))\n    raise AssertionError\n"
    )
    assert await check._tests(tmp_path, ["-n", "0", "-p", "no:asyncio"], {}) == (1, ())
    assert (tmp_path / "told").read_text() == "once\n"


def test_the_summary_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    check._report([check.Outcome("pytest", 0, 1.0, ("tests/test_it.py::test_it",))])
    told = capsys.readouterr().out
    assert "failed beside others, passed alone: tests/test_it.py::test_it" in told


async def test_what_the_tests_import_is_compiled_once_and_kept_for_the_processes_they_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "imported.py").touch()
    assert await check.run([sys.executable, "-c", "import imported"], tmp_path, {}) == 0
    assert len(list(tmp_path.glob("__pycache__/imported.*.pyc"))) == 1


def test_the_tests_are_told_where_the_parts_are() -> None:
    s3 = S3Access("http://127.0.0.1:1", "key", "secret", "here")
    told = check.variables(Parts("url", "unix:///sock", True, s3))
    assert told["JOBYARD_TEST_DATABASE_URL"] == "url"
    assert told["JOBYARD_TEST_DOCKER_HOST"] == "unix:///sock"
    assert json.loads(told["JOBYARD_TEST_S3"]) == {
        "endpoint": "http://127.0.0.1:1",
        "accessKey": "key",
        "secretKey": "secret",
        "region": "here",
    }
    with pytest.raises(Misconfigured, match="need an object store"):
        check.variables(Parts("url", "unix:///sock", True, None))
