"""`python3 -m service …` and `jobyard …`: one way in, also on a machine where nothing is installed yet.

Until the environment stands, only the standard library is imported here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from service.errors import JobyardError
from service.local import environment

_NEED_DEV = {"test"}


def main() -> None:
    """Makes the environment if need be, then runs the command line in it."""
    try:
        _enter_environment()
    except JobyardError as error:
        sys.exit(f"jobyard: {error.message}")
    except KeyboardInterrupt:
        sys.exit(130)
    _run_app()


def _enter_environment() -> None:
    """Returns inside the clone's environment, or at once where Jobyard was installed as a wheel."""
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
    from service.cli.main import app

    # The machine commands bring the whole service along: over a second of imports that others can do without.
    through_the_api = {group.name for group in app.registered_groups}
    through_the_api |= {command.name for command in app.registered_commands}
    if not set(sys.argv[1:2]) & through_the_api:
        from service.local.commands import register

        register(app)
    app(prog_name="jobyard")


if __name__ == "__main__":
    main()
