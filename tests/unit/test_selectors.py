"""Label selectors: Kubernetes' grammar and meaning, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.selectors import Selector, Term, parse_selector
from service.errors import Invalid

LABELS = {"team": "vision", "stage": "prod", "empty": ""}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("team=vision", True),
        ("team==vision", True),
        ("team = vision", True),
        ("team=audio", False),
        ("team!=audio", True),
        ("team!=vision", False),
        ("nothing!=x", True),
        ("team in (vision, audio)", True),
        ("team in (audio)", False),
        ("nothing in (x)", False),
        ("team notin (audio,speech)", True),
        ("team notin (vision)", False),
        ("nothing notin (x)", True),
        ("team", True),
        ("nothing", False),
        ("!nothing", True),
        ("! team", False),
        ("empty=", True),
        ("empty", True),
        ("empty in (,x)", True),
        ("team=vision,stage=prod", True),
        ("team=vision, stage=test", False),
        ("team in (audio,vision),stage notin (test),!nothing", True),
        ("ovh/type!=job", True),
    ],
)
def test_what_a_selector_means(text: str, holds: bool) -> None:
    assert parse_selector("labelSelector", text).matches(LABELS) is holds


@pytest.mark.parametrize(
    "text",
    ["", " ", ",", "a=b,", "=b", "a=b=c", "a in", "a in b", "a in (b", "a in b)", "a in ((b))", "a ~ b",
     "a>1", "in (a)", "!", "!!a", "-a=b", "a=b c", "a=b\n,", "a\0=b", "x" * 64 + "=a", "a=" + "x" * 64,
     "a in (" + ",".join(f"v{n}" for n in range(65)) + ")", "a=b," * 400],
)  # fmt: skip
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_selector("labelSelector", text)
    assert refused.value.field == "labelSelector"


_NAMES = st.sampled_from(["a", "team", "x.y/z-1", "in", "notin"])
_VALUES = st.sampled_from(["", "1", "b", "in", "A_b.c"])
_TERMS = st.one_of(
    st.builds(
        Term, _NAMES, st.sampled_from(["in", "notin"]), st.lists(_VALUES, min_size=1, unique=True).map(tuple)
    ),
    st.builds(Term, _NAMES, st.sampled_from(["exists", "absent"])),
)


@given(st.lists(_TERMS, min_size=1, max_size=4).map(lambda terms: Selector(tuple(terms))))
def test_what_is_written_reads_as_the_same(selector: Selector) -> None:
    assert parse_selector("labelSelector", str(selector)) == selector


@given(
    st.lists(_TERMS, min_size=1, max_size=3), st.lists(_TERMS, max_size=3), st.dictionaries(_NAMES, _VALUES)
)
def test_both_must_hold(some: list[Term], others: list[Term], labels: dict[str, str]) -> None:
    one, two = Selector(tuple(some)), Selector(tuple(others))
    assert (one & two).matches(labels) is (one.matches(labels) and two.matches(labels))
    assert (one.unmet(labels) is None) is one.matches(labels)


def test_labels_are_completed_by_what_leaves_no_choice() -> None:
    selector = parse_selector("labelSelector", "team=vision,stage in (a,b),owner,!x,kind!=y")
    assert selector.completed({}) == {"team": "vision"}
    assert selector.completed({"team": "audio", "k": "v"}) == {"team": "audio", "k": "v"}


def test_a_long_selector_is_read_in_no_time_that_grows_wild() -> None:
    with pytest.raises(Invalid):
        parse_selector("labelSelector", "a in (" + "(" * 1000)
