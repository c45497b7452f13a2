"""Rows of FOCUS as files: CSV, Parquet, JSON lines. Written bit by bit, so that memory is bounded."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import IO, Any, Literal, Protocol

import msgspec

from service.domain.bills.focus import COLUMNS, VERSION, Value
from service.errors import NotNow

Format = Literal["csv", "parquet", "jsonl"]
MEDIA: dict[Format, str] = {
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "jsonl": "application/jsonl",
}

#: Rows of a Parquet file that are written, and can be read, as one.
GROUP_ROWS = 10_000
#: Digits in all and after the point of every number in a Parquet file.
PRECISION, SCALE = 38, 18

Row = Mapping[str, Value]


class FocusFile(Protocol):
    """A file being written. It is whole once `close` has returned; the file below stays open."""

    def write(self, rows: Iterable[Row]) -> None: ...

    def close(self) -> None: ...


class CsvFile:
    """RFC 4180 in UTF-8: names first; nothing stands between two commas for null."""

    def __init__(self, file: IO[bytes], _facts: Mapping[str, str]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=False)
        self._csv = csv.writer(self._text, lineterminator="\r\n")
        self._csv.writerow([column.name for column in COLUMNS])

    def write(self, rows: Iterable[Row]) -> None:
        self._csv.writerows([_plain(row[column.name]) for column in COLUMNS] for row in rows)

    def close(self) -> None:
        self._text.detach().flush()


class JsonLines:
    """One object a line; numbers are text, so that none becomes a float."""

    def __init__(self, file: IO[bytes], _facts: Mapping[str, str]) -> None:
        self._file = file
        self._encode = msgspec.json.Encoder().encode_lines

    def write(self, rows: Iterable[Row]) -> None:
        self._file.write(self._encode([{c.name: _plain(row[c.name]) for c in COLUMNS} for row in rows]))

    def close(self) -> None:
        self._file.flush()


class ParquetFile:
    """Numbers are decimals and times UTC; the version and the facts stand in the file's metadata."""

    def __init__(self, file: IO[bytes], facts: Mapping[str, str]) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise NotNow(
                "format: Parquet needs the Python package pyarrow, which is not installed where the service "
                "runs; csv and jsonl need nothing"
            ) from error
        self._arrow = pyarrow
        kinds = {
            "string": pyarrow.string(),
            "json": pyarrow.string(),
            "decimal": pyarrow.decimal128(PRECISION, SCALE),
            "datetime": pyarrow.timestamp("us", tz="UTC"),
        }
        self._schema = pyarrow.schema(
            [pyarrow.field(c.name, kinds[c.kind], nullable=not c.required) for c in COLUMNS],
            metadata={"FocusVersion": VERSION, **facts},
        )
        self._writer: Any = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._held: list[Row] = []

    def write(self, rows: Iterable[Row]) -> None:
        self._held += rows
        if len(self._held) >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        rows, self._held = self._held, []
        if rows:
            columns = {name: [row[name] for row in rows] for name in self._schema.names}
            self._writer.write_table(self._arrow.table(columns, schema=self._schema))


FILES: dict[Format, Callable[[IO[bytes], Mapping[str, str]], FocusFile]] = {
    "csv": CsvFile,
    "parquet": ParquetFile,
    "jsonl": JsonLines,
}


def _plain(value: Value) -> str | None:
    """A value as text: no exponents, times to the second in UTC."""
    match value:
        case Decimal():
            return format(value, "f")
        case datetime():
            return f"{value:%Y-%m-%dT%H:%M:%SZ}"
        case _:
            return value
