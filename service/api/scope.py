"""What a token may see and do: its role, and its label selector."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from service.domain.directory import Token
from service.domain.job import Job
from service.domain.reading import check_label
from service.errors import Forbidden, Invalid

#: Its administrators look after the projects.
ROOT_PROJECT = "default"


class Level(IntEnum):
    """What an operation needs. Each role can do what those below it can."""

    PUBLIC = 0
    READ = 1
    OPERATE = 2
    ADMINISTER = 3
    #: An administrator of the project `default`, of all its jobs.
    OVERSEE = 4


ROLE_LEVELS = {
    "ai_training_read": Level.READ,
    "ai_training_operator": Level.OPERATE,
    "administrator": Level.ADMINISTER,
}
_NEEDED = {
    Level.READ: "any role",
    Level.OPERATE: "the role ai_training_operator or administrator",
    Level.ADMINISTER: "the role administrator",
    Level.OVERSEE: f"an administrator's token of the project {ROOT_PROJECT} without a label selector",
}


class Selector(NamedTuple):
    """The jobs that have a label with one value."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


def level_of(token: Token) -> Level:
    level = ROLE_LEVELS.get(token.role, Level.PUBLIC)
    if level is Level.ADMINISTER and token.project == ROOT_PROJECT and token.label_selector is None:
        return Level.OVERSEE
    return level


def require(token: Token, needed: Level) -> None:
    """Raise `Forbidden` unless the token's role is enough."""
    if level_of(token) < needed:
        raise Forbidden(f"token {token.name!r} has the role {token.role}; this needs {_NEEDED[needed]}")


def selector_of(token: Token) -> Selector | None:
    return None if token.label_selector is None else parse_selector("labelSelector", token.label_selector)


def parse_selector(field: str, text: str) -> Selector:
    """`name=value`. Raises `Invalid` for every other form."""
    name, equals, value = text.partition("=")
    if not equals or "," in text or "=" in value or name.endswith("!"):
        raise Invalid(field, text, "this version knows the one form name=value")
    check_label(field, name, value)
    return Selector(name, value)


def parse_selectors(field: str, text: str) -> dict[str, str]:
    """`name=value,name=value`, all of which must hold."""
    return dict(parse_selector(field, part.strip()) for part in text.split(","))


def sees(token: Token, job: Job) -> bool:
    """Whether a job is in the token's project and scope."""
    selector = selector_of(token)
    in_scope = selector is None or job.spec.labels.get(selector.name) == selector.value
    return job.project == token.project and in_scope


def labelled(token: Token, labels: dict[str, str] | None) -> dict[str, str]:
    """The labels of a job that this token makes: those asked for, and its own."""
    selector = selector_of(token)
    found = dict(labels or {})
    if selector is None:
        return found
    if found.setdefault(selector.name, selector.value) != selector.value:
        raise Invalid(
            f"labels.{selector.name}", found[selector.name], f"jobs of this token have the label {selector}"
        )
    return found
