"""Fixtures of all folders: a database and a ledger for each test, on parts that are started if need be."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from aiohttp import web
from hypothesis import settings

from service.api import errors
from service.ledger.ledger import Ledger
from service.local.check import FAILED_VARIABLE
from service.vault import MasterKey
from tests.support import chaos as chaos_support
from tests.support import databases, failures, order, summary
from tests.support.parts import provided
from tests.support.yard import Yard

MASTER = MasterKey(b"m" * 32)

# No test is about how long something takes on a machine that others use too.
settings.register_profile("jobyard", deadline=None)
settings.load_profile("jobyard")


def pytest_addoption(parser: pytest.Parser) -> None:
    chaos_support.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """What is started in a shell's background ignores Ctrl-C, and by nohup SIGHUP, and hands that on; what we
    start must not."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(summary.Summary(), "jobyard-summary")
    if told := os.environ.get(FAILED_VARIABLE):
        config.pluginmanager.register(failures.Failures(Path(told)), "jobyard-failures")
    # Otherwise each exception that is logged is drawn with all that its frames hold, which takes seconds of
    # CPU, on the event loop.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order.arrange(items)


def pytest_collection_finish() -> None:
    """Thousands of tests stay until the end: to look whether they are garbage took a tenth of their time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def parts(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the collected tests need and the environment does not name."""
    root = Path(__file__).parent
    paths = {item.path for item in request.session.items}
    with provided({path.relative_to(root).parts[0] for path in paths if path.is_relative_to(root)}):
        yield


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> chaos_support.Chaos:
    """How long to break things for."""
    return chaos_support.Chaos(bool(request.config.getoption(chaos_support.OPTION)), request.config)


@pytest.fixture(scope="session")
def template_database(parts: None) -> Iterator[str]:
    """The name of a migrated database, to make copies of."""
    name = asyncio.run(databases.make_template())
    yield name
    asyncio.run(databases.drop(name))


@pytest.fixture
async def database_url(template_database: str) -> AsyncIterator[str]:
    """The superuser's URL of a migrated, empty database of this test's own."""
    async with databases.a_database(template_database) as url:
        yield url


@pytest.fixture(autouse=True)
def nothing_fails_inside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No answer of a test's own API is a 500, whether or not the test looks at it; `fails_inside` marks those
    that want one."""
    failed: list[BaseException] = []
    answered = errors.answer

    def answer(error: Exception, request_id: str) -> web.Response:
        response = answered(error, request_id)
        if response.status == 500:
            failed.append(error)
        return response

    monkeypatch.setattr(errors, "answer", answer)
    yield
    if request.node.get_closest_marker("fails_inside") is None and failed:
        raise failed[0]


@pytest.fixture(autouse=True)
def the_log_stays_as_it_is() -> Iterator[None]:
    """No test leaves another log behind: in those after it, `capture_logs` would hear nothing."""
    before = structlog.get_config()
    yield
    left = structlog.get_config()
    if left != before:
        structlog.configure(**before)
        pytest.fail(f"it left the log set up otherwise: {left}")


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    async with Ledger.open(database_url, MASTER, readers=3) as opened:
        yield opened


@pytest.fixture
async def yard(ledger: Ledger) -> Yard:
    """A project with prices and a quota, and ways to bring its jobs anywhere."""
    yard = Yard(ledger)
    await yard.open()
    return yard
