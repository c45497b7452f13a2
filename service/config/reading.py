"""From the environment to `Settings`, or to an error that names the variable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from service.config.catalogue import read_catalogue
from service.config.problems import EMPTY, allowed_for, problems_of, said_of
from service.config.settings import NONE, PREFIX, Settings
from service.errors import Misconfigured
from service.vault import Secret

#: What is read where it is used; that it is empty is said here, before anything is made in its place.
READ_ELSEWHERE = ("DATABASE_URL", "JOBYARD_MIGRATION_URL", "JOBYARD_MASTER_KEY", "JOBYARD_S3")


def read_settings(environment: Mapping[str, str], **overrides: Any) -> Settings:
    """Settings from the environment; `overrides` (from the command line) win, None leaves them alone.

    Raises `Misconfigured` that names the variable, or the option that was given in its place.
    """
    overrides = {name: value for name, value in overrides.items() if value is not None}
    _check_filled(environment)
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        text = environment.get(PREFIX + field.name.upper())
        if text is None:
            continue
        try:
            given[field.name] = (
                read_catalogue(_value(text, Path)) if field.name == "catalogue" else _value(text, field.type)
            )
        except (msgspec.MsgspecError, ValueError) as error:
            allowed = allowed_for(field.name) or str(error)
            raise Misconfigured(said_of(field.name, text, allowed)) from error
    if "JOBYARD_S3" in environment:
        given.setdefault("checkpoint_s3", Secret(environment["JOBYARD_S3"]))
    given |= overrides
    given.setdefault("state_dir", Path(".jobyard"))
    settings = Settings(**given)
    settings = msgspec.structs.replace(
        settings,
        state_dir=Path(settings.state_dir).absolute(),
        public_url=settings.public_url.rstrip("/"),  # paths are set behind it
    )
    where = f"{PREFIX}CATALOGUE: {environment.get(f'{PREFIX}CATALOGUE', 'as it was given')}"
    problems = [f"{where}: {problem}" for problem in settings.catalogue.problems()]
    problems += problems_of(settings, overrides)
    if problems:
        raise Misconfigured("; ".join(problems))
    return settings


def _check_filled(environment: Mapping[str, str]) -> None:
    """Raises `Misconfigured` for a variable of ours that is there and empty, as one is that was taken from
    another which is not set. It is not the same as absent: what is secret would be made anew, the ledger
    would be another, and a directory the one that we happen to be started in."""
    ours = [PREFIX + field.name.upper() for field in msgspec.structs.fields(Settings)]
    for name in (*READ_ELSEWHERE, *ours):
        text = environment.get(name)
        if text is not None and not text.strip():
            raise Misconfigured(f"{name}: {text!r} is not allowed; {EMPTY}")


def _value(text: str, kind: Any) -> Any:
    if kind == tuple[str, ...]:
        if text.strip().lower() == NONE:
            return ()
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return msgspec.convert(text, kind, strict=False, dec_hook=lambda to, value: to(value))
