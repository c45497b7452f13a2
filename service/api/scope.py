"""What a token may see and do: its role, and its label selector."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from service.domain.directory import Token
from service.domain.job import Job
from service.domain.selectors import Selector, parse_selector
from service.errors import Forbidden, Invalid

#: Its administrators look after the projects.
ROOT_PROJECT = "default"


class Level(IntEnum):
    """What an operation needs. Each role can do what those below it can."""

    PUBLIC = 0
    READ = 1
    OPERATE = 2
    #: As to operate, on what all jobs of the project share and no label is on.
    PROVIDE = 3
    ADMINISTER = 4
    #: As to administer, on what concerns all of the project's jobs: without a label selector.
    WHOLE = 5
    #: An administrator of the project `default`, of all its jobs.
    OVERSEE = 6


ROLE_LEVELS = {
    "ai_training_read": Level.READ,
    "ai_training_operator": Level.PROVIDE,
    "administrator": Level.ADMINISTER,
}
_NEEDED = {
    Level.READ: "any role",
    Level.OPERATE: "the role ai_training_operator or administrator",
    Level.PROVIDE: "the role ai_training_operator or administrator",
    Level.ADMINISTER: "the role administrator",
    Level.WHOLE: "an administrator's token without a label selector",
    Level.OVERSEE: f"an administrator's token of the project {ROOT_PROJECT} without a label selector",
}


def level_of(token: Token) -> Level:
    level = ROLE_LEVELS.get(token.role, Level.PUBLIC)
    if level is Level.ADMINISTER and token.label_selector is None:
        return Level.OVERSEE if token.project == ROOT_PROJECT else Level.WHOLE
    return level


def require(token: Token, needed: Level) -> None:
    """Raise `Forbidden` unless the token's role, and its reach, is enough."""
    if level_of(token) < needed:
        raise Forbidden(f"token {token.name!r} has the role {token.role}; this needs {_NEEDED[needed]}")
    if needed is Level.PROVIDE and token.label_selector is not None:
        raise Forbidden(
            f"token {token.name!r} is limited to jobs with {token.label_selector}; data stores, registries "
            "and volumes are the whole project's: it may use and read them, and only a token without a label "
            "selector may change them"
        )


def selector_of(token: Token) -> Selector | None:
    """The jobs that a token is limited to; None when it is not."""
    return None if token.label_selector is None else parse_selector("labelSelector", token.label_selector)


def sees(token: Token, job: Job) -> bool:
    """Whether a job is in the token's project and scope."""
    return job.project == token.project and reaches(token, job.spec.labels)


def reaches(token: Token, labels: Mapping[str, str]) -> bool:
    """Whether a job of the token's project with these labels is in its scope."""
    selector = selector_of(token)
    return selector is None or selector.matches(labels)


def labelled(token: Token, labels: dict[str, str] | None) -> dict[str, str]:
    """The labels of a job that this token makes: those asked for, and its own."""
    selector = selector_of(token)
    return dict(labels or {}) if selector is None else selector.completed(labels or {})


def require_within(token: Token, labels: Mapping[str, str]) -> None:
    """Raise `Invalid` for the labels of a job that the token could not see itself."""
    selector = selector_of(token)
    if selector is not None and (term := selector.unmet(labels)) is not None:
        raise Invalid(
            f"labels.{term.name}", labels.get(term.name), f"your token is limited to jobs with {term}"
        )
