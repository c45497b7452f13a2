"""`jobyard whatif`: what its options mean, and its answer in words."""

from __future__ import annotations

from typing import Any

import pytest

from service.cli.parse import amounts
from service.cli.whatif import difference, summary, unlisted
from service.errors import Invalid

NODE = ("cpus", "memory", "gpus")


def test_amounts_come_with_commas_or_one_by_one() -> None:
    given = ["gpus=4,cpus=32", "memory=128G"]
    assert amounts("--capacity", given, NODE, sizes=("memory",)) == {
        **{"gpus": 4, "cpus": 32},
        "memory": 128 * 2**30,
    }
    assert amounts("--quota", [], ("cpu", "gpu")) == {}


@pytest.mark.parametrize(
    ("text", "size"), [("1024", 1024), ("64M", 2**26), ("1g", 2**30), ("2GiB", 2**31), ("1TB", 2**40)]
)
def test_sizes(text: str, size: int) -> None:
    assert amounts("--capacity", [f"memory={text}"], NODE, sizes=("memory",)) == {"memory": size}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tpu=1", "the names are cpus, memory, gpus"),
        ("gpus", "write gpus=NUMBER"),
        ("gpus=", "write gpus=NUMBER"),
        ("gpus=-1", "write gpus=NUMBER"),
        ("gpus=٣", "write gpus=NUMBER"),
        ("gpus=1,gpus=2", "stands twice"),
        ("memory=lots", "such as 128G"),
        ("memory=1X", "such as 128G"),
        ("", "the names are"),
    ],
)
def test_what_is_no_amount_is_named(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        amounts("--capacity", [text], NODE, sizes=("memory",))
    assert refused.value.field == "--capacity"


def sums(**more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = dict.fromkeys(("runs", "changed", "sooner", "later", "taken", "lost"), 0)
    return plain | {"waitSeconds": "0", "costDifference": None, "currency": ""} | more


def test_what_it_comes_to() -> None:
    found = {
        "from": "2026-01-01T00:00:00Z",
        "to": "2026-01-02T00:00:00Z",
        "totals": sums(
            runs=9, changed=3, sooner=2, lost=1, waitSeconds="-3600", costDifference="-1.5", currency="EUR"
        ),
        "others": sums(runs=1, changed=1, later=1, waitSeconds="61"),
        "modelError": {"runs": 8, "medianSeconds": "0.0125", "mostSeconds": "2", "otherwise": 1},
    }
    told = list(summary(found))
    assert told[0].endswith("3 of 9 runs change (2 sooner, 1 no longer placed)")
    assert told[1:] == [
        "waits in all: -1h; cost: -1.5 EUR",
        "of others on the node: 1 of 1 run changes (1 later); waits in all: +1m 1s",
        "the model's own error on what really happened: median 0.013 s, at most 2.000 s, over 8 runs; "
        "1 run came to another end",
    ]


def test_differences_have_a_sign() -> None:
    assert (difference(-250), difference(0), difference(0.4)) == ("-4m 10s", "+0.0s", "+0.4s")


@pytest.mark.parametrize(
    ("listed", "changed", "more", "every", "said"),
    [
        ([True, True, False], 2, 0, True, None),
        ([True, True, False], 2, 7, False, None),
        ([True, True], 5, 4, False, "3 runs more that change are not listed"),
        ([True, True], 3, 4, False, "1 run more that changes is not listed"),
        ([True, False], 1, 4, True, "4 runs more are not listed"),
    ],
)
def test_what_is_not_listed_is_said(
    listed: list[bool], changed: int, more: int, every: bool, said: str | None
) -> None:
    found = {"items": [{"changed": each} for each in listed], "more": more, "totals": sums(changed=changed)}
    told = unlisted(found, every)
    assert told == said or (told or "").startswith(f"{said}")
