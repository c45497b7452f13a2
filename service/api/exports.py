"""/v1/billing/export: a month's bill in the format of FOCUS."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import IO, Any, Literal, NamedTuple, TypeVar

from aiohttp import web

from service.api import focus_files, past, past_lists, reads, scope
from service.api.billing import project_asked
from service.api.call import Call
from service.api.query import Moment, Query
from service.api.stream import pump
from service.domain.bills.focus import VERSION, Account, Charged, row_of_credit, rows_of
from service.domain.bills.statement import Month
from service.errors import NotNow
from service.ledger import asof
from service.ledger import bills as ledger_bills

T = TypeVar("T")

#: Runs that are read and written at a time.
_RUNS_AT_ONCE = 1000
_CHUNK_BYTES = 1 << 18
#: As many files as a project may have in the making, or on their way to its clients.
MOST_OF_PROJECT = 4


class ExportAsked(Query, frozen=True):
    """`month` is one of UTC, such as 2026-11: when none is named the present one, or that of `asOf`. Of
    another `project` for who looks after the yard; everything as it was at `asOf`."""

    format: Literal["csv", "parquet", "jsonl"] = "csv"
    month: str | None = None
    project: str | None = None
    as_of: Moment | None = None


async def focus(call: Call) -> web.StreamResponse:
    """The file is made whole before the answer begins: what goes wrong is an error, and no half file."""
    asked: ExportAsked = call.query
    named = Month.read("month", asked.month) if asked.month is not None else None
    project = await project_asked(call, asked.project)
    then = await past.asked(call)
    month = named or Month.of(then.at if then is not None else await call.ledger.now())
    with _counted(call.service.exporting, call.project), _file(call) as file:
        async with call.service.exports.taken(call.request, call.project):
            await _make(call, file, asked.format, _Of(project, month, then))
        response = web.StreamResponse(headers={"X-Focus-Version": VERSION} | call.headers)
        name = f"focus-{VERSION}-{project}-{month}.{asked.format}"
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        response.content_type = focus_files.MEDIA[asked.format]
        response.content_length = file.tell()
        if call.request.method != "HEAD":
            await response.prepare(call.request)
            await pump(call.request, response, _chunks(file))
        return response


@contextmanager
def _counted(exporting: Counter[str], project: str) -> Iterator[None]:
    """A file takes room until its client has it, which may take long. Raises `NotNow`."""
    if exporting[project] >= MOST_OF_PROJECT:
        raise NotNow(f"{MOST_OF_PROJECT} exports of your project are under way; try again when one is done")
    exporting[project] += 1
    try:
        yield
    finally:
        exporting[project] -= 1


def _file(call: Call) -> IO[bytes]:
    """One without a name, which is gone with the answer. Raises `NotNow`."""
    with _on_disk():
        return tempfile.TemporaryFile(dir=call.service.parts.settings.state_dir)


@contextmanager
def _on_disk() -> Iterator[None]:
    """A disk that is full, or fails, is no fault of who asks, nor ours. Raises `NotNow`."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise NotNow(f"the export could not be written on the service's disk: {error.strerror}") from error


async def _written(work: Callable[..., T], *given: Any) -> T:
    """What some work on the file answers, done beside the loop. Raises `NotNow`."""
    with _on_disk():
        return await asyncio.to_thread(work, *given)


class _Of(NamedTuple):
    """What a file is of; `then` is None for now."""

    project: str
    month: Month
    then: asof.Moment | None


async def _make(call: Call, file: IO[bytes], format: focus_files.Format, of: _Of) -> None:
    """Everything is read as it was at one moment. A token with a label selector gets its jobs' charges, and
    no credits of the whole project."""
    project, month = of.project, of.month
    async with _bills(call, of) as bills:
        facts = {"DataGenerator": "Jobyard", "BillingAccountId": project, "BillingPeriod": str(month)}
        made = await _written(focus_files.FILES[format], file, facts)
        account = Account(project, bills.name)
        async for runs in bills.runs:
            await _written(
                lambda part: made.write([row for run in part for row in rows_of(run, account, month)]), runs
            )
        credits = [each for each in bills.credits if Month.of(each.at) == month]
        await _written(made.write, [row_of_credit(each, account, month) for each in credits])
        await _written(made.close)


@asynccontextmanager
async def _bills(call: Call, of: _Of) -> AsyncIterator[reads.Bills]:
    pool, selector = call.ledger.pool, scope.selector_of(call.token)
    if of.then is None:
        async with reads.bills_at_once(pool, of.project, selector, _RUNS_AT_ONCE) as bills:
            yield bills
        return
    charged = await past_lists.charged(call.ledger, of.project, selector, of.then)
    credits = [] if selector is not None else await ledger_bills.credits(pool, of.project, of.then.position)
    yield reads.Bills(await reads.name_of(pool, of.project), _parts(charged), credits)


async def _parts(charged: list[Charged]) -> AsyncIterator[list[Charged]]:
    for first in range(0, len(charged), _RUNS_AT_ONCE):
        yield charged[first : first + _RUNS_AT_ONCE]


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    file.seek(0)
    while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
        yield chunk
