"""`python3 -m service …` and `jobyard …`: one way in, also on a machine where nothing is installed yet.

Until the environment stands, only the standard library is imported here.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys


def _say_stopped() -> None:
    """Of `up`, what became of it: once it has begun anything it tells that itself."""
    if sys.argv[1:2] == ["up"]:
        with contextlib.suppress(OSError):  # nobody reads it
            os.write(2, b"Stopped before it was ready; no part of it was started.\n")


def _interrupted(*_: object) -> None:
    """Until `main` can answer it, Ctrl-C ends us without a traceback of imports."""
    _say_stopped()
    os._exit(130)


_STANDING = signal.getsignal(signal.SIGINT)
if _STANDING is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupted)

from pathlib import Path  # noqa: E402

from service.errors import JobyardError  # noqa: E402
from service.local import environment  # noqa: E402

_NEED_DEV = {"test"}
#: The words of `service.local.commands`.
_MACHINE = {"up", "demo", "bench", "test"}
# As `service.cli.exits` has them, which an older Python than ours cannot read.
_USAGE, _INTERRUPTED = 2, 130
_COMPLETING = "_JOBYARD_COMPLETE" in os.environ


def main() -> None:
    """Makes the environment if need be, then runs the command line in it."""
    _open_streams()
    try:
        signal.signal(signal.SIGINT, _STANDING)
        _enter_environment()
        _run_app()
    except JobyardError as error:
        print(f"jobyard: {error.message}", file=sys.stderr)
        sys.exit(_USAGE)
    except KeyboardInterrupt:
        _say_stopped()
        sys.exit(_INTERRUPTED)


def _open_streams() -> None:
    """Standard streams that take whatever is written.

    One that is closed is nowhere: its descriptor would be the first file's or socket's that is opened, and
    nobody is asked to print to None. A letter that the terminal does not know is escaped.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 (until our end)
    if getattr(sys.stdout, "errors", None) == "strict" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _enter_environment() -> None:
    """Returns inside the clone's environment, or at once where Jobyard was installed as a wheel."""
    if _COMPLETING:
        return  # somebody waits at a prompt: nothing is installed meanwhile
    clone = environment.clone_around(Path(__file__).parent)
    if clone is None:
        return
    only_asks = "--help" in sys.argv[1:]
    kind = "dev" if sys.argv[1:2] and sys.argv[1] in _NEED_DEV and not only_asks else "run"
    changed = environment.ensure(clone, kind)
    if changed or not clone.is_current_process():
        python = str(clone.python)
        sys.stderr.flush()
        os.execve(python, [python, "-m", "service", *sys.argv[1:]], dict(os.environ))  # noqa: S606


def _run_app() -> None:
    # Nothing of what is imported now is garbage, and to look for some took a tenth of the time.
    gc.disable()
    from service.cli import guard, words
    from service.cli.main import app_for, bare, is_known

    words.check(*sys.argv[1:])
    first = _first_word()
    app = bare() if first in _MACHINE else app_for(first)
    # The machine commands bring the whole service along: over a second of imports that others can do without.
    if not is_known(first):
        from service.local.commands import register

        register(app)
    gc.freeze()
    gc.enable()
    if first and not first.startswith("-") and not is_known(first):
        app(prog_name="jobyard")  # the service's own parts: what they did not expect is told in full
        return
    with guard.local_files():
        app(prog_name="jobyard")


def _first_word() -> str:
    """What stands after our name, on the command line or on one that a shell wants to be completed."""
    if not _COMPLETING:
        return "".join(sys.argv[1:2])
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    return "".join(line.split()[1:2])


if __name__ == "__main__":
    main()
