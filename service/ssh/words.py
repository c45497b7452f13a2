"""What is run in a container for what an SSH client asks: its login shell, one line for it, or SFTP."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

MOST_LINE_BYTES = 128 * 1024
MOST_SIDE = 10_000
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_LOCALE_NAME = re.compile(r"LANG|LANGUAGE|LC_[A-Z]{1,32}")
_LOCALE_VALUE = re.compile(r"[A-Za-z0-9_.@:=-]{0,128}")
MOST_VARIABLES = 20

# The terminal has its size before anything looks at it: the engine can set it only afterwards.
_SHELL = (
    'if [ -n "$2" ]; then stty rows "$2" cols "$3" 2>/dev/null; fi; '
    "SHELL=/bin/sh; if [ -x /bin/bash ]; then SHELL=/bin/bash; fi; export SHELL; "
)
_LOGIN = f'{_SHELL}exec "$SHELL" -l'
_LINE = f'{_SHELL}exec "$SHELL" -c "$1"'

#: Where images keep it, if they have it.
_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
)
_SFTP = (
    f"for each in {' '.join(_SFTP_SERVERS)}; do "
    'if [ -x "$each" ]; then exec "$each"; fi; done; '
    "echo \"jobyard: the service cannot serve files here itself (it is not root on the engine's host),"
    ' and this image has no sftp-server" >&2; exit 127'
)
SFTP = ("/bin/sh", "-c", _SFTP)


class Terminal:
    """What a client said of its terminal; what it cannot be is taken for a plain one."""

    def __init__(self, term: str, width: int, height: int) -> None:
        self.term = term if _TERM.fullmatch(term) else "dumb"
        self.size = (width, height) if is_size(width, height) else (80, 24)


def is_size(width: int, height: int) -> bool:
    return 0 < width <= MOST_SIDE and 0 < height <= MOST_SIDE


def shell(line: str | None, terminal: Terminal | None) -> tuple[str, ...]:
    """The command for a login shell, or for one line that it is given."""
    size = ("", "") if terminal is None else (str(terminal.size[1]), str(terminal.size[0]))
    return ("/bin/sh", "-c", _LOGIN if line is None else _LINE, "sh", line or "", *size)


class Locale(dict[bytes, bytes]):
    """The variables that a client may send: how it reads and writes. The others are dropped as they come."""

    def __setitem__(self, name: bytes, value: bytes) -> None:
        known = name in self or len(self) < MOST_VARIABLES
        if known and _is(_LOCALE_NAME, name) and _is(_LOCALE_VALUE, value):
            super().__setitem__(name, value)

    def pairs(self) -> Iterator[tuple[str, str]]:
        for name, value in self.items():
            yield name.decode(), value.decode()


def _is(pattern: re.Pattern[str], text: bytes) -> bool:
    return len(text) <= 256 and text.isascii() and pattern.fullmatch(text.decode()) is not None


def environment(sent: Mapping[bytes, bytes], terminal: Terminal | None) -> tuple[tuple[str, str], ...]:
    """The variables of a command. What a client sent is a `Locale`."""
    pairs = tuple(sent.pairs()) if isinstance(sent, Locale) else ()
    return pairs if terminal is None else (*pairs, ("TERM", terminal.term))
