"""Labels: what users call their jobs by, and what tokens are limited to."""

from __future__ import annotations

import re
from collections.abc import Mapping

from service.errors import Invalid

#: Labels that the service sets itself; a specification that is read back carries them.
OWN_LABELS = ("ovh/id", "ovh/type")
OWN_PREFIX = "ovh/"
MAX_LABELS = 64

_NAME = re.compile(
    r"\A(?:[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z"
)
_VALUE = re.compile(r"\A([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?\Z")


def is_label_name(text: str) -> bool:
    """`[prefix/]name`, each of at most 63 characters (the prefix: 253)."""
    return _NAME.match(text) is not None


def is_label_value(text: str) -> bool:
    """At most 63 characters, or empty."""
    return _VALUE.match(text) is not None


def check_label(field: str, name: str, value: str = "") -> bool:
    """True for a label that a user may set; `Invalid` otherwise."""
    if name.startswith(OWN_PREFIX):
        raise Invalid(field, name, f"labels beginning with {OWN_PREFIX} are set by the service")
    if not is_label_name(name):
        raise Invalid(
            field, name, "a label's name is [prefix/]name of letters, digits, '-', '_' and '.', at most 63"
        )
    if not is_label_value(value):
        raise Invalid(
            field, value, "a label's value is letters, digits, '-', '_' and '.', at most 63, or empty"
        )
    return True


def check_count(labels: Mapping[str, str]) -> None:
    """Raise `Invalid` for more labels than a job may have (ours not counted)."""
    count = sum(name not in OWN_LABELS for name in labels)
    if count > MAX_LABELS:
        raise Invalid("labels", f"{count} labels", f"at most {MAX_LABELS}")


def complete(labels: Mapping[str, str], job_id: str) -> dict[str, str]:
    """A job's labels: those asked for, checked, and ours. Raises `Invalid`."""
    check_count(labels)
    checked = {
        name: value
        for name, value in sorted(labels.items())
        if name not in OWN_LABELS and check_label(f"labels.{name}", name, value)
    }
    return {**checked, "ovh/id": job_id, "ovh/type": "job"}
