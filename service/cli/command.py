"""How a coroutine becomes a command: what it needs is given to it, what it raises becomes an exit status.

A parameter annotated `Client`, `Output` or `Database` is no option of its own: it stands for
`--url --token --state`, for `-o`, or for `--database-url --state`, and is made from them.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from typer.models import ArgumentInfo

from service.cli import exits, where, words
from service.cli.client import Client
from service.cli.output import Format, Output
from service.cli.values import ValueCommand, state_dir
from service.errors import JobyardError, Misconfigured

F = TypeVar("F", bound=Callable[..., Awaitable[None]])

_STATE = Annotated[
    Path | None,
    typer.Option(
        "--state", metavar="DIR", parser=state_dir, help="State directory of a service that runs here."
    ),
]
_OPTIONS: dict[type, dict[str, Any]] = {
    Client: {
        "url": Annotated[str | None, typer.Option("--url", metavar="URL", help="The service [JOBYARD_URL].")],
        "token": Annotated[
            str | None, typer.Option("--token", metavar="TOKEN", help="Your token [JOBYARD_TOKEN].")
        ],
        "state": _STATE,
    },
    Output: {
        "format": Annotated[
            Format | None, typer.Option("-o", "--output", help="Print this format, and nothing else.")
        ],
        "no_color": Annotated[bool, typer.Option("--no-color", hidden=True)],
    },
}


_STANDING = {"no_color": False}


class Database:
    """The ledger's own database, for commands that must not depend on the API."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection


class DatabaseLater:
    """As `Database`, for commands that may not need one: connected to while `opened` lasts."""

    def __init__(self, url: str | None, state: Path | None) -> None:
        self._given = url, state

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Database]:
        # Most commands ask the API alone, and need not wait until a driver for Postgres is imported.
        import asyncpg

        from service.ledger.address import connect_named
        from service.ledger.database import close

        at = where.database(*self._given)
        connection = await connect_named(at.named_by, at.url, admin=True, patient=True)
        try:
            yield Database(connection)
        except asyncpg.PostgresError as error:
            raise Misconfigured(f"the database holds no ledger that can be read: {error}") from error
        finally:
            await close(connection)


_OPTIONS[Database] = _OPTIONS[DatabaseLater] = {
    "database_url": Annotated[
        str | None, typer.Option("--database-url", metavar="URL", help="The ledger [DATABASE_URL].")
    ],
    "state": _STATE,
}


def command(
    app: typer.Typer,
    name: str,
    *,
    example: str,
    aliases: Sequence[str] = (),
    epilog: str = "",
    **settings: Any,
) -> Callable[[F], F]:
    """Registers a coroutine function as the command `name` of `app`.

    `example` is the command line without `jobyard` that its help ends with; `aliases` are other spellings of
    the name, which the help does not show.
    """
    settings.setdefault("cls", ValueCommand)
    ending = "\n\n".join(filter(None, (epilog, f"\b\nExample:\n  jobyard {example}")))

    def register(function: F) -> F:
        run, parameters = _runner(function)
        _sign(run, parameters)
        settings["epilog"] = ending
        settings["short_help"] = (function.__doc__ or "").partition("\n")[0]
        app.command(name, **settings)(run)
        for alias in aliases:
            app.command(alias, hidden=True, **settings)(run)
        return function

    return register


def alone(app: typer.Typer, *, example: str) -> Callable[[F], F]:
    """Registers a coroutine function as what the group `app` does when no command of it is named.

    Its options are not those of the commands: one that stands before a command is refused.
    """

    def register(function: F) -> F:
        run, parameters = _runner(function)

        @wraps(function)
        def entry(ctx: typer.Context, **given: Any) -> None:
            if ctx.invoked_subcommand is None:
                run(**given)
                return
            sources = filter(None, (ctx.get_parameter_source(name) for name in given))
            if any(source.name != "DEFAULT" for source in sources):
                raise typer.BadParameter(f"write the options after {ctx.invoked_subcommand!r}")

        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        _sign(entry, [context, *parameters])
        app.callback(invoke_without_command=True, epilog=f"\b\nExample:\n  jobyard {example}")(entry)
        return function

    return register


def _runner(function: Callable[..., Awaitable[None]]) -> tuple[Callable[..., None], list[inspect.Parameter]]:
    """What runs a coroutine function with what it needs, and the parameters that it then has."""
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    needs = {each: hint for each, hint in hints.items() if hint in _OPTIONS}
    shown = {each: hint for each, hint in hints.items() if each not in needs}
    named = {each: _argument_of(hint) for each, hint in shown.items()}

    @wraps(function)
    def run(**given: Any) -> None:
        finish(_with(function, needs, given, {each: name for each, name in named.items() if name}))

    return run, _parameters(function, shown, needs)


def finish(work: Coroutine[Any, Any, None]) -> None:
    """Runs a command to its end and leaves with its status. Errors are one line on stderr."""
    try:
        try:
            asyncio.run(work)
        finally:
            sys.stdout.flush()  # what cannot be written any more is found here and not at Python's end
    except JobyardError as error:
        print(f"jobyard: {error.message}", file=sys.stderr)
        raise typer.Exit(exits.of_error(error)) from None
    except (KeyboardInterrupt, typer.Abort):
        raise typer.Exit(exits.Exit.INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read us has gone (`| head`): say nothing, also not when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(exits.Exit.BROKEN_PIPE) from None


def _parameters(
    function: Callable[..., Any], shown: dict[str, Any], needs: dict[str, type]
) -> list[inspect.Parameter]:
    """The parameters that the command line knows: the function's own, and those of what it needs."""
    own = inspect.signature(function).parameters
    made = [own[name].replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=shown[name]) for name in shown]
    added: dict[str, Any] = {}
    for need in needs.values():
        added |= _OPTIONS[need]
    made += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_STANDING.get(name), annotation=hint)
        for name, hint in added.items()
    ]
    return made


def _argument_of(hint: Any) -> str:
    """What the help calls an argument; of an option, and of a list, nothing."""
    found = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, ArgumentInfo)]
    return (found[0].metavar or "") if found else ""


def _sign(run: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    del run.__wrapped__  # type: ignore[attr-defined]  # or the original's signature would be read


async def _with(
    function: Callable[..., Awaitable[None]],
    needs: dict[str, type],
    given: dict[str, Any],
    named: dict[str, str],
) -> None:
    """Calls the function with what it needs in place of the options that stand for it."""
    for each, name in named.items():
        words.check_filled(name, given.get(each))
    async with AsyncExitStack() as stack:
        made: dict[str, Any] = {}
        for name, need in needs.items():
            options = {option: given.get(option) for option in _OPTIONS[need]}
            made[name] = await stack.enter_async_context(_make(need, options))
        hidden = {option for need in needs.values() for option in _OPTIONS[need]}
        own = {name: value for name, value in given.items() if name not in hidden}
        await function(**own, **made)


@asynccontextmanager
async def _make(need: type, options: dict[str, Any]) -> AsyncIterator[Any]:
    if need is Client:
        async with Client(where.find(options["url"], options["token"], options["state"])) as client:
            yield client
    elif need is DatabaseLater:
        yield DatabaseLater(options["database_url"], options["state"])
    elif need is Database:
        async with DatabaseLater(options["database_url"], options["state"]).opened() as connected:
            yield connected
    else:
        yield Output(options["format"], colors=not options["no_color"])
