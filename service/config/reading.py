"""From the environment to `Settings`, or to an error that names the variable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from service.config.catalogue import read_catalogue
from service.config.problems import EMPTY, allowed_for, problems_of, said_of
from service.config.settings import PREFIX, Settings
from service.errors import Misconfigured
from service.vault import Secret


def read_settings(environment: Mapping[str, str], **overrides: Any) -> Settings:
    """Settings from the environment; `overrides` (from the command line) win, None leaves them alone.

    Raises `Misconfigured` that names the variable, or the option that was given in its place.
    """
    overrides = {name: value for name, value in overrides.items() if value is not None}
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
    settings = msgspec.structs.replace(settings, state_dir=Path(settings.state_dir).absolute())
    where = f"{PREFIX}CATALOGUE: {environment.get(f'{PREFIX}CATALOGUE', 'as it was given')}"
    problems = [f"{where}: {problem}" for problem in settings.catalogue.problems()]
    problems += problems_of(settings, overrides)
    if problems:
        raise Misconfigured("; ".join(problems))
    return settings


def _value(text: str, kind: Any) -> Any:
    if kind is Path and not text.strip():
        raise ValueError(EMPTY)  # it would be the directory that we happen to be started in
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return msgspec.convert(text, kind, strict=False, dec_hook=lambda to, value: to(value))
