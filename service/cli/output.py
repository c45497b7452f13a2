"""What commands print: tables for people, JSON or YAML and nothing else on stdout for programs."""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, BinaryIO, NamedTuple, TextIO

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPED_WIDTH = 1_000_000  # a pipe has no width: nothing may be cut off
_STATE_STYLES = {
    "DONE": "green",
    "RUNNING": "bold cyan",
    "FAILED": "bold red",
    "ERROR": "bold red",
    "INTERRUPTED": "yellow",
    "TIMEOUT": "yellow",
    "INTERRUPTING": "yellow",
}
_BYTES_STEP = 1000
_GAP = 2


class Format(StrEnum):
    JSON = "json"
    YAML = "yaml"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for `command.finish`, which knows what to leave with


def console(*, stderr: bool = False, colors: bool = True) -> Console:
    """A console on stdout or stderr; without colours and animation where that is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return _Console(
        stderr=stderr,
        width=None if stream.isatty() else _PIPED_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
        no_color=None if colors else True,
    )


def reader_left(stream: TextIO | BinaryIO) -> bool:
    """Whether nobody can read any more what would be written to a pipe."""
    looks = select.poll()
    looks.register(stream.fileno(), 0)  # errors are told unasked
    return any(event & select.POLLERR for _, event in looks.poll(0))


class Output:
    """Where one command's answer goes. `format` None is for people."""

    def __init__(self, format: Format | None = None, *, colors: bool = True) -> None:
        self.format = format
        self.out = console(colors=colors)
        self.err = console(stderr=True, colors=colors)

    def item(self, value: Any, shown: Mapping[str, Any] | None = None) -> None:
        """One thing: `value` for programs; for people those pairs of `shown` that hold something."""
        if self._encoded(value):
            return
        pairs = {
            k: v for k, v in (shown if shown is not None else value).items() if v not in (None, "", [], {})
        }
        width = max(map(len, pairs), default=0)
        for name, each in pairs.items():
            self.out.print(Text.assemble((f"{name:<{width}}  ", "bold"), cell(each)))

    def items(self, value: Any, columns: Sequence[str | Column], rows: Iterable[Sequence[Any]]) -> None:
        """A list: `value` for programs, a table for people."""
        if self._encoded(value):
            return
        made = table(columns, rows, self.out.width)
        if self.out.is_terminal:
            self.out.print(made)
            return
        with self.out.capture() as captured:
            self.out.print(made)
        for line in captured.get().splitlines():
            print(line.rstrip())  # what fills up a column is nothing to a program

    def done(self, text: str, value: Any = None) -> None:
        """That something was done: a line for people, `value` for programs if there is any."""
        if self.format is None:
            self.out.print(text)
        elif value is not None:
            self._encoded(value)

    def deleted(self, what: str) -> None:
        """That a thing is gone."""
        self.done(f"deleted {what}", {"deleted": what})

    def note(self, text: str | Text) -> None:
        """Something beside the answer; never on stdout."""
        self.err.print(text)

    def err_bytes(self) -> BinaryIO:
        """stderr for bytes of others."""
        return sys.stderr.buffer

    def _encoded(self, value: Any) -> bool:
        if self.format is None:
            return False
        # Bytes, as these formats are UTF-8 whatever the terminal speaks.
        sys.stdout.buffer.write(encoded(value, self.format).encode(errors="backslashreplace"))
        sys.stdout.flush()
        return True


def encoded(value: Any, format: Format) -> str:
    """`value` as JSON or YAML text that ends with a newline."""
    if format is Format.JSON:
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


class Column(NamedTuple):
    """A table's column. `whole`: never folded, as people copy what is in it; `extra`: left out of a terminal
    that is too narrow for all of them, the last one first."""

    name: str
    whole: bool = False
    extra: bool = False


def table(columns: Sequence[str | Column], rows: Iterable[Sequence[Any]], width: int) -> Table:
    """A plain table: a headline, and one line a row."""
    named = [Column(each) if isinstance(each, str) else each for each in columns]
    cells = [[cell(each) for each in row] for row in rows]
    needs = [max([len(column.name), *(row[at].cell_len for row in cells)]) for at, column in enumerate(named)]
    shown = _fitting(named, needs, width)
    made = Table(box=None, header_style="bold", pad_edge=False)
    for at in shown:
        made.add_column(named[at].name, overflow="fold", no_wrap=named[at].whole)
    for row in cells:
        made.add_row(*(row[at] for at in shown))
    return made


def _fitting(columns: list[Column], needs: list[int], width: int) -> list[int]:
    """Which columns are shown."""
    shown = list(range(len(columns)))
    for at in reversed(shown[:]):
        if sum(needs[each] + _GAP for each in shown) - _GAP <= width:
            break
        if columns[at].extra:
            shown.remove(at)
    return shown


def cell(value: Any) -> Text:
    """A value in a table; a job's state in its colour."""
    text = "" if value is None else "yes" if value is True else "no" if value is False else str(value)
    # What others wrote must not steer the reader's terminal.
    plain = "".join(char if char.isprintable() else "�" for char in text)
    return Text(plain, style=_STATE_STYLES.get(plain, ""))


def size(count_bytes: int | float) -> str:
    """A number of bytes for people: `57.5 kB`."""
    amount = float(count_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < _BYTES_STEP:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _BYTES_STEP
    return f"{amount:.1f} TB"


def moment(text: str | None) -> datetime | None:
    """A time of the API, aware."""
    return None if text is None else datetime.fromisoformat(text)


def clock(text: str | None) -> str:
    """A time of the API as this machine's clock shows it."""
    at = moment(text)
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(text: str | None) -> str:
    """How long ago a time of the API was: `3m`, `2h`, `5d`."""
    at = moment(text)
    return "" if at is None else span((datetime.now(UTC) - at).total_seconds())


def span(seconds: float) -> str:
    """A duration in one unit, rounded down."""
    whole = max(0, int(seconds))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if whole >= length:
            return f"{whole // length}{unit}"
    return f"{whole}s"
