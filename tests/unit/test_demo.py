"""The demo's own parts: the data is what it says it is, the training learns, the checks notice."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.local.demo import checks, train

HERE = Path(train.__file__).parent
DIGITS = HERE / "digits" / "digits.csv.gz"

LINE: dict[str, Any] = {"minutes": 2, "units": 3, "hourlyPrice": "0.03", "amount": "0.003000"}
HISTORY = [
    {"state": "QUEUED", "date": "2026-01-01T00:00:00Z"},
    {"state": "INITIALIZING", "date": "2026-01-01T00:00:01Z"},
    {"state": "RUNNING", "date": "2026-01-01T00:00:02Z"},
    {"state": "FINALIZING", "date": "2026-01-01T00:01:01.000001Z"},
    {"state": "DONE", "date": "2026-01-01T00:09:00Z"},
]
GOOD = list(checks.WANTED_STATES)


def test_the_data_is_what_its_source_says() -> None:
    raw = gzip.decompress(DIGITS.read_bytes())
    assert hashlib.sha256(raw).hexdigest() in (HERE / "digits" / "SOURCE.md").read_text()
    assert DIGITS.stat().st_size < 100_000
    training, held_out = train.read(DIGITS)
    assert (len(training), len(held_out)) == (1437, 360)
    assert {digit for _, digit in held_out} == set(range(10))
    assert all(len(pixels) == 64 and 0 <= min(pixels) <= max(pixels) <= 1 for pixels, _ in training)


def test_the_training_alone_learns_and_says_what_it_wrote(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-I",
        str(HERE / "train.py"),
        "--data",
        str(DIGITS),
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    model = json.loads((tmp_path / "out" / "model.json").read_text())
    assert (
        len(re.findall(r"^epoch +\d+ of 10  loss \d\.\d{4}  accuracy \d\.\d{4}", done.stdout, re.MULTILINE))
        == 10
    )
    assert metrics["accuracy"] >= 0.95
    assert train.accuracy(model, train.read(DIGITS)[1]) == metrics["accuracy"]
    for name in ("model.json", "metrics.json"):
        digest = hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest()
        assert f"wrote {name} sha256 {digest}\n" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "model.json"]


def test_the_training_gives_the_same_model_every_time() -> None:
    training, held_out = train.read(DIGITS)
    models = [train.train(training[:200], held_out[:50], 1, lambda _: None)[0] for _ in range(2)]
    assert models[0] == models[1]


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (GOOD, ""),
        ([*GOOD[:3], *GOOD[4:]], "RUNNING is missing"),
        ([*GOOD[:2], "RUNNING", "PENDING", "FINALIZING", "DONE"], "RUNNING is missing or out of order"),
        ([*GOOD[:5], "FAILED"], "DONE is missing"),
        ([*GOOD, "QUEUED"], "ended as QUEUED"),
        ([], "QUEUED is missing"),
    ],
)
def test_the_states_must_be_those_of_a_good_run(found: list[str], wrong: str) -> None:
    told = checks.states(found)
    assert bool(told) == bool(wrong)
    assert wrong in "".join(told)


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, ""),
        ({"minutes": 1, "amount": "0.001500"}, "1 minutes are billed"),
        ({"amount": "0.003001"}, "0.003001 is billed"),
        ({"units": 1}, "is billed"),
    ],
)
def test_the_bill_must_follow_from_the_history(changed: dict[str, Any], wrong: str) -> None:
    told = checks.bill(LINE | changed, HISTORY)
    assert bool(told) == bool(wrong)
    assert wrong in "".join(told)


def test_the_accuracy_must_be_good_and_the_one_that_was_told() -> None:
    assert checks.accuracy(0.95, 0.95) == []
    assert checks.accuracy(0.95, 0.96) != []
    assert checks.accuracy(0.89, 0.89) != []


def test_every_file_must_come_back_unchanged() -> None:
    assert checks.hashes({"a": "1", "b": "2"}, {"a": "1", "b": "2", "c": "3"}) == []
    assert checks.hashes({"a": "1"}, {"a": "2"}) == ["a came back changed"]
    assert checks.hashes({"a": "1"}, {}) == ["a did not come back"]
