"""Label selectors: which jobs a list shows, a token sees. The grammar and meaning are Kubernetes' own.

    name=value   name==value   name!=value   name in (a, b)   name notin (a, b)   name   !name

Several, with commas, must all hold. `!=` and `notin` hold for jobs without the label, too.
Source: Kubernetes, "Labels and Selectors", set-based requirements; OVHcloud's `labelSelector` is that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, assert_never

import msgspec

from service.domain.labels import is_label_name, is_label_value
from service.errors import Invalid

MOST_CHARS = 1024
MOST_VALUES = 64

Operator = Literal["in", "notin", "exists", "absent"]

_SPLIT = re.compile(r",(?![^()]*\))")
_SET = re.compile(r"(?P<name>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)")
_PAIR = re.compile(r"(?P<name>[^\s=!()]+)\s*(?P<op>==?|!=)\s*(?P<value>[^\s=!()]*)")
_LONE = re.compile(r"(?P<not>!?)\s*(?P<name>[^\s=!()]+)")
_FORMS = "name=value, name!=value, name in (a,b), name notin (a,b), name, !name; several with commas"


class Term(msgspec.Struct, frozen=True):
    """One requirement on one label. `values` is empty for `exists` and `absent`."""

    name: str
    op: Operator
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        match self.op:
            case "in":
                return labels.get(self.name) in self.values
            case "notin":
                return labels.get(self.name) not in self.values
            case "exists":
                return self.name in labels
            case "absent":
                return self.name not in labels
            case _:
                assert_never(self.op)

    def __str__(self) -> str:
        match self.op, self.values:
            case "in", (value,):
                return f"{self.name}={value}"
            case "notin", (value,):
                return f"{self.name}!={value}"
            case "exists", _:
                return self.name
            case "absent", _:
                return f"!{self.name}"
            case op, values:
                return f"{self.name} {op} ({','.join(values)})"


class Selector(msgspec.Struct, frozen=True):
    """All of its terms must hold; one without terms selects everything."""

    terms: tuple[Term, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(term.holds(labels) for term in self.terms)

    def unmet(self, labels: Mapping[str, str]) -> Term | None:
        """The first term that does not hold."""
        return next((term for term in self.terms if not term.holds(labels)), None)

    def completed(self, labels: Mapping[str, str]) -> dict[str, str]:
        """The labels, with those added that the terms name with one value and that are not there yet."""
        sole = {term.name: term.values[0] for term in self.terms if term.op == "in" and len(term.values) == 1}
        return sole | dict(labels)

    def __and__(self, other: Selector) -> Selector:
        return Selector(self.terms + other.terms)

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


@lru_cache(maxsize=4096)
def parse_selector(field: str, text: str) -> Selector:
    """Read a selector. Raises `Invalid` for what is none."""
    if len(text) > MOST_CHARS:
        raise Invalid(field, text, f"a selector of at most {MOST_CHARS} characters")
    return Selector(tuple(_term(field, part.strip()) for part in _SPLIT.split(text)))


def _term(field: str, text: str) -> Term:
    if found := _SET.fullmatch(text):
        values = tuple(dict.fromkeys(value.strip() for value in found["values"].split(",")))
        term = Term(found["name"], "in" if found["op"] == "in" else "notin", values)
    elif found := _PAIR.fullmatch(text):
        term = Term(found["name"], "notin" if found["op"] == "!=" else "in", (found["value"],))
    elif found := _LONE.fullmatch(text):
        term = Term(found["name"], "absent" if found["not"] else "exists")
    else:
        raise Invalid(field, text, f"the forms are {_FORMS}")
    if not is_label_name(term.name):
        raise Invalid(field, term.name, "a label's name; the forms are " + _FORMS)
    if len(term.values) > MOST_VALUES:
        raise Invalid(field, f"{len(term.values)} values", f"at most {MOST_VALUES} for one label")
    for value in term.values:
        if not is_label_value(value):
            raise Invalid(field, value, "a label's value is letters, digits, '-', '_' and '.', at most 63")
    return term
