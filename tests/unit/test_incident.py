"""The file of an incident: any change of it is told, and replaying needs nothing but the file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from service.config import Settings
from service.domain import commands as cmd
from service.errors import Unreadable
from service.ledger.incident import bundle as bundles
from service.ledger.incident.bundle import BudgetAt, Bundle, QuotaAt, RoomAt
from service.ledger.incident.replay import replay
from service.ledger.incident.safe import SHOWN, WITHHELD
from tests.support import jobs
from tests.support.incidents import bundle_of, rewritten, with_event
from tests.support.jobs import ENGINE, EPOCH, PROJECT
from tests.unit.test_recall import done, opened


@pytest.fixture(scope="module")
def made() -> Bundle:
    """A job that timed out unseen and was deleted."""
    ledger = opened()
    done(ledger, cmd.StartSupervisor(engine=ENGINE, epoch=EPOCH, node="n", cpus=4, memory=2**40, gpus=0))
    done(ledger, jobs.submit(timeout=90), jobs.place(), jobs.prepared(), jobs.started(ledger.now))
    ledger.wait(600)
    done(ledger, jobs.exited(ledger.now, 137), jobs.finalize(), jobs.delete())
    return bundle_of(ledger)


def position_of(made: Bundle, kind: str) -> int:
    return next(entry.event.position for entry in made.events if entry.event.type == kind)


def told(made: Bundle) -> list[tuple[int, str, str, str]]:
    """Every difference, by where it is and what it says."""
    found = [each for step in replay(made) for each in step.differences]
    return [(each.position, each.field, each.recorded, each.decided) for each in found]


def test_what_was_written_is_read_and_decided_as_it_was(made: Bundle) -> None:
    again = bundles.read(bundles.write(made))
    assert bundles.write(again) == bundles.write(made)
    assert told(again) == []
    assert sum(len(step.events) for step in replay(again)) == len(made.events)


def test_every_setting_is_shown_or_withheld_knowingly() -> None:
    names = {field.name for field in msgspec.structs.fields(Settings)}
    assert sorted([*SHOWN, *WITHHELD]) == sorted(names)


def test_every_changed_byte_is_told(made: Bundle) -> None:
    """Whichever it is, and whatever it becomes: a readable sentence, and nothing else."""
    content = bundles.write(made)
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        with pytest.raises(Unreadable):
            bundles.read(bytes(changed))
    for end in range(0, len(content), 7):
        with pytest.raises(Unreadable):
            bundles.read(content[:end])
    with pytest.raises(Unreadable):
        bundles.read(content + b" ")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda of: of["events"][4]["event"].update(type="RunPaused"),
            "RunPaused, which this version does not",
        ),
        (lambda of: of["events"][4]["event"]["data"].update(units=2), "does not match its hash"),
        (lambda of: of["events"][4]["event"].update(actor="else"), "does not match its hash"),
        (lambda of: of["events"][4].update(previous="00" * 32), "does not follow event"),
        (lambda of: of["events"][4].update(previous="no"), "is no hash|does not follow"),
        (lambda of: of["events"].reverse(), "stands after event"),
        (lambda of: of.update(events=of["events"][:3]), "do not begin with the submission"),
        (
            lambda of: of.update(job="22222222-1111-4111-8111-111111111111"),
            "do not begin with the submission",
        ),
        (lambda of: of.update(more=1), "unknown field"),
        (lambda of: of.pop("versions"), "missing required field"),
    ],
)
def test_what_does_not_belong_together_is_named(
    made: Bundle, change: Callable[[Any], Any], says: str
) -> None:
    with pytest.raises(Unreadable, match=says):
        bundles.read(rewritten(bundles.write(made), change))


def test_a_file_of_another_format_or_version_is_named(made: Bundle) -> None:
    content = bundles.write(made)
    newer = content.replace(b'"version":1}', b'"version":2}')
    with pytest.raises(Unreadable, match="version 2 of the format; this version of Jobyard reads 1"):
        bundles.read(newer)
    with pytest.raises(Unreadable, match="its format is 'a'"):
        bundles.read(b'{"format": "a", "version": 1}')
    with pytest.raises(Unreadable, match="no incident bundle, or not a whole one"):
        bundles.read(b"\x00\xff")


@pytest.mark.parametrize(
    ("kind", "change", "field"),
    [
        ("RunPlaced", lambda body: body.update(hourlyPrice="0.30"), "data.hourlyPrice"),
        ("RunPlaced", lambda body: body.update(epoch=3), "event"),
        ("RunStarted", lambda body: body.update(timeoutAt="2026-01-01T03:00:00Z"), "data.timeoutAt"),
        ("TimeoutReached", lambda body: body.update(source="PENDING"), "data.source"),
        ("RunExited", lambda body: body.update(outcome="DONE"), "data.outcome"),
        ("RunFinalized", lambda body: body["info"].update(message="All is well."), "data.info.message"),
        ("JobSubmitted", lambda body: body.update(units=0), "data.units"),
    ],
)
def test_a_bundle_that_was_forged_throughout_is_decided_otherwise(
    made: Bundle, kind: str, change: Callable[[Any], Any], field: str
) -> None:
    """Also when its digest and every hash were made to fit: no export or checkpoint would know them."""
    forged = bundles.read(bundles.write(with_event(made, kind, change)))
    assert told(forged)[0][:2] == (position_of(made, kind), field)


def test_the_quota_and_the_room_that_there_was_count(made: Bundle) -> None:
    submitted, placed = position_of(made, "JobSubmitted"), position_of(made, "RunPlaced")
    known = [step for step in replay(made) if step.events[0].position == submitted]
    assert known[0].differences == ()
    full = replace(_quota(cpu_used=10), cpu=10)
    said = told(replace(made, quota=(QuotaAt(position=submitted, quota=full),)))
    assert said[0][:2] == (submitted, "event")
    assert "refused: resources.cpu: 1 asked, but project vision uses 10" in said[0][3]
    other = told(replace(made, quota=(QuotaAt(position=submitted, quota=replace(_quota(), cpu=11)),)))
    assert other == [(submitted, "quota.cpu", "11", "10")]
    stood = BudgetAt(position=submitted, spent=Decimal(4), amount=Decimal(5), currency="EUR")
    assert told(replace(made, budget=(stood,))) == []
    spent = told(replace(made, budget=(replace(stood, spent=Decimal(5)),)))
    assert spent[0][:2] == (submitted, "event")
    assert "is used up" in spent[0][3]
    room = RoomAt(position=placed, engine=ENGINE, cpus=3, memory=0, gpus=0)
    assert told(replace(made, room=(room,))) == []
    assert told(replace(made, room=(replace(room, cpus=4),))) == [(placed, "room.cpus", "1", "0")]


def _quota(**used: int) -> Any:
    from service.domain.quota import Quota

    return Quota(project=PROJECT, cpu=10, gpu=4, **used)


# -- the command line -------------------------------------------------------------------------------


def cli(*words: str, at: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own that has nothing: no environment, no service, no Docker, no database."""
    command = [
        sys.executable,
        "-c",
        "from service.cli.main import app_for; app_for('incident')(prog_name='jobyard')",
        *words,
    ]
    return subprocess.run(command, cwd=at, env={}, capture_output=True, text=True, check=False)


def test_another_machine_comes_to_the_same_decisions(made: Bundle, tmp_path: Path) -> None:
    (tmp_path / "i.json").write_bytes(bundles.write(made))
    said = cli("incident", "replay", "i.json", "-o", "json", at=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert json.loads(said.stdout) == {
        "job": str(made.job),
        "commands": len(made.events) - 1,
        "events": len(made.events),
        "equal": True,
        "differences": [],
    }
    shown = cli("incident", "show", "i.json", at=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "RUNNING > TIMEOUT" in shown.stdout


def test_another_decision_is_an_exit_status_of_1(made: Bundle, tmp_path: Path) -> None:
    forged = with_event(made, "RunExited", lambda body: body.update(outcome="DONE"))
    (tmp_path / "i.json").write_bytes(bundles.write(forged))
    said = cli("incident", "replay", "i.json", at=tmp_path)
    assert said.returncode == 1
    line = next(line for line in said.stdout.splitlines() if "data.outcome" in line)
    assert line.split() == [
        str(position_of(made, "RunExited")),
        "RunExited",
        "data.outcome",
        '"DONE"',
        '"INTERRUPTED"',
    ]


@pytest.mark.parametrize("what", ["changed", "cut", "missing", "a folder"])
def test_a_file_that_is_no_bundle_is_told_in_a_line(made: Bundle, tmp_path: Path, what: str) -> None:
    file = tmp_path / "i.json"
    content = bundles.write(made)
    if what == "changed":
        file.write_bytes(content.replace(b"RUNNING", b"RUNNINH", 1))
    elif what == "cut":
        file.write_bytes(content[:-100])
    elif what == "a folder":
        file.mkdir()
    for word in ("replay", "show") if what == "changed" else ("replay",):
        said = cli("incident", word, "i.json", at=tmp_path)
        assert (said.returncode, said.stdout, said.stderr.count("\n")) == (1, "", 1), said
        assert said.stderr.startswith("jobyard: i.json: ")
