"""Any commands in any order, in batches of any size: the ledger against an oracle and second opinions."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.bills.run import under
from service.domain.bills.statement import AsOf, Month, statement
from service.domain.pricing import POLICIES, absent, seconds, window
from service.domain.refusals import MOST_A_MINUTE
from service.errors import QuotaExceeded, Rejected
from tests.properties.bills import amount_of, minutes_of, spent_in
from tests.properties.model import OVER, REFUSED, USES_QUOTA, Model
from tests.support import jobs
from tests.support.jobs import MINUTE
from tests.support.pure import PureLedger
from tests.unit.test_state_machine import ARROWS

PROJECTS = ("vision", "audio")
JOBS = tuple(UUID(int=number) for number in range(1, 7))
#: Seconds by which another clock differs: far behind, at boundaries of a minute, ahead.
SKEWS = st.sampled_from([-90_000, -61, -60, -30, -1, 0, 1, 90_000]) | st.integers(-600, 60)
SPECS = st.fixed_dictionaries(
    {
        "project": st.sampled_from(PROJECTS),
        "kind": st.sampled_from(["cpu", "gpu"]),
        "units": st.sampled_from([1, 1, 2, 4]),
        "timeout": st.integers(1, 300),
        "timeout_auto_restart": st.booleans(),
    }
)

A_JOB = st.sampled_from(JOBS)
WISHES = ("submit", "kill", "start", "delete", "push again", "edit", "label", "exec", "erase")
REPORTS = (
    *("place", "prepared", "started", "timeout", "too large", "exited", "abort"),
    *("fail", "finalize", "note", "adopt", "sync"),
)
ASIDE = ("", "timeout", "too large", "exec")
PROBLEM = ev.Info("push-failed", "The bucket is full.")
FACTS = st.fixed_dictionaries(
    {
        "code": st.sampled_from([0, 1, 137]),
        "used": st.sampled_from([50 * 2**30, 50 * 2**30 + 1, 3001 * 2**30]),
        "oom": st.booleans(),
        "problem": st.sampled_from([None, None, PROBLEM]),
        "kept": st.booleans(),
        "sync": st.sampled_from(["RUNNING", "DONE", "FAILED"]),
        "sync_id": st.sampled_from(["s1", "s2"]),
    }
)

#: How many of each kind of answer were seen, so that the test can tell that it tests anything.
seen: dict[str, int] = defaultdict(int)


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ledger = PureLedger()
        self.model = Model(jobs.EPOCH)
        self.checked = 0
        self.last_move: dict[UUID, Any] = {}
        self.state: dict[UUID, str] = {}
        self.waiting: list[cmd.Command] = []
        self.expected: list[str] = []
        self.batch_size = 1

    @initialize(cpu=st.integers(1, 6), gpu=st.integers(1, 3), specs=st.lists(SPECS, min_size=6, max_size=6))
    def begin(self, cpu: int, gpu: int, specs: list[dict[str, Any]]) -> None:
        prices = cmd.SetPrices(prices=jobs.PRICES, currency="EUR")
        made = [cmd.CreateProject(project=name, name=name, cpu=cpu, gpu=gpu) for name in PROJECTS]
        assert not any(isinstance(answer, Rejected) for answer in self.ledger.commit([prices, *made]))
        for name in PROJECTS:
            self.model.limits[name] = {"cpu": cpu, "gpu": gpu}
        self.checked = len(self.ledger.events)
        for job, fields in zip(JOBS, specs, strict=True):
            self.send(jobs.submit(job, **fields))

    # -- what may be done ---------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.000001, 1, 59.999999, 60, 60.000001, 600]) | st.integers(0, 7200))
    def wait(self, seconds: float) -> None:
        self.flush()
        self.ledger.wait(seconds)

    @rule(size=st.integers(1, 6))
    def gather(self, size: int) -> None:
        """From here on, so many commands share a commit."""
        self.flush()
        self.check_spend()
        self.batch_size = size

    @rule(project=st.sampled_from(PROJECTS), cpu=st.integers(0, 6) | st.none(), gpu=st.integers(0, 3))
    def set_quota(self, project: str, cpu: int | None, gpu: int) -> None:
        self.send(cmd.SetQuota(project=project, cpu=cpu, gpu=gpu))

    @rule(
        job=A_JOB, what=st.sampled_from(WISHES), spec=SPECS, force=st.booleans(), stranger=st.integers(0, 19)
    )
    def wish(self, job: UUID, what: str, spec: dict[str, Any], force: bool, stranger: int) -> None:
        """What a user may want of any job, now and then of one that is not his."""
        of: dict[str, Any] = {"job": job, "project": self.project_of(job, stranger == 0)}
        wishes: dict[str, cmd.Command] = {
            "submit": jobs.submit(job, **spec),
            "kill": jobs.kill(**of),
            "start": jobs.start(discard_volumes=force, **of),
            "delete": jobs.delete(force=force, **of),
            "push again": jobs.push_again(**of),
            "label": jobs.label("team", "vision" if force else None, **of),
            "exec": jobs.open_exec(**of),
            "erase": cmd.EraseJob(**of),
            "edit": jobs.edit(
                timeout=spec["timeout"] if stranger % 2 else None,
                timeout_auto_restart=spec["timeout_auto_restart"] if force else None,
                **of,
            ),
        }
        self.send(wishes[what])

    @rule(job=A_JOB, what=st.sampled_from(REPORTS), skew=SKEWS, odd=st.integers(0, 39), facts=FACTS)
    def report(self, job: UUID, what: str, skew: int, odd: int, facts: dict[str, Any]) -> None:
        """What a supervisor may say of any run, whether it makes sense or not."""
        of, at = self.of(job, odd), self.ledger.now + timedelta(seconds=skew)
        reports: dict[str, cmd.Command] = {
            "place": jobs.place(**of),
            "prepared": jobs.prepared(**of),
            "started": jobs.started(at, **of),
            "timeout": jobs.timeout(**of),
            "too large": jobs.too_much_storage(facts["used"], **of),
            "exited": jobs.exited(at, facts["code"], oom=facts["oom"], **of),
            "abort": jobs.abort(**of),
            "fail": jobs.fail(volumes_kept=facts["kept"], **of),
            "finalize": jobs.finalize(problem=facts["problem"], volumes_kept=facts["kept"], **of),
            "note": jobs.note(**of),
            "adopt": jobs.adopt(at, **of),
            "sync": jobs.sync(facts["sync"], sync_id=facts["sync_id"], **of),
        }
        self.send(reports[what])

    @precondition(lambda self: self.live())
    @rule(
        pick=st.integers(0, 9),
        steps=st.integers(1, 9),
        pace_s=st.sampled_from([0, 1, 60, 90]),
        skew=st.integers(-120, 0),
        code=st.sampled_from([0, 1]),
        aside=st.sampled_from(ASIDE),
    )
    def goes_on(self, pick: int, steps: int, pace_s: int, skew: int, code: int, aside: str) -> None:
        """The next ordinary steps of a live job, so that runs get far."""
        job = self.live()[pick % len(self.live())]
        for _ in range(steps):
            self.flush()
            self.ledger.wait(pace_s)
            if self.model.jobs[job].state == "RUNNING":
                self.happens(job, aside)
            if self.model.jobs[job].state not in OVER:
                self.send(self.next_step(job, self.ledger.now + timedelta(seconds=skew), code))

    def happens(self, job: UUID, aside: str) -> None:
        """What may come to a run before its process ends."""
        if aside == "timeout":
            self.ledger.wait(300)
            self.send(jobs.timeout(**self.of(job)))
        elif aside == "too large":
            self.send(jobs.too_much_storage(3001 * 2**30, **self.of(job)))
        elif aside == "exec":
            self.send(jobs.open_exec(job=job, project=self.project_of(job, False)))

    def next_step(self, job: UUID, at: datetime, code: int) -> cmd.Command:
        of = self.of(job)
        match self.model.jobs[job].state:
            case "QUEUED":
                return jobs.place(**of)
            case "INITIALIZING":
                return jobs.prepared(**of)
            case "PENDING":
                return jobs.started(at, **of)
            case "FINALIZING":
                return jobs.finalize(volumes_kept=code == 1, **of)
            case _:
                return jobs.exited(at, code, **of)

    @precondition(lambda self: self.running())
    @rule(pick=st.integers(0, 9), late=st.sampled_from([-0.000001, 0, 1, 100_000]))
    def time_runs_out(self, pick: int, late: float) -> None:
        """A running job's timeout is noticed too early, at once, or very late."""
        job = self.running()[pick % len(self.running())]
        due = self.model.jobs[job].due
        assert due is not None
        self.flush()
        self.ledger.wait(max(0.0, (due - self.ledger.now).total_seconds() + late))
        self.send(jobs.timeout(**self.of(job)))

    # -- sending and comparing ----------------------------------------------------------------------

    def live(self) -> list[UUID]:
        return [name for name, job in self.model.jobs.items() if job.state not in OVER]

    def is_deleted(self, job: UUID) -> bool:
        return job in self.model.jobs and self.model.jobs[job].deleted

    def running(self) -> list[UUID]:
        return [name for name, job in self.model.jobs.items() if job.state == "RUNNING"]

    def project_of(self, job: UUID, stranger: bool) -> str:
        known = self.model.jobs.get(job)
        own = known.project if known else PROJECTS[0]
        return PROJECTS[1 - PROJECTS.index(own)] if stranger else own

    def of(self, job: UUID, odd: int = 9) -> dict[str, Any]:
        """The fields of a supervisor's command; now and then of a wrong run, epoch or project."""
        known = self.model.jobs.get(job)
        run = (known.run if known else 1) - (odd == 0)
        epoch = jobs.EPOCH - 1 if odd == 1 else jobs.EPOCH
        return jobs.of_run(job, run, self.project_of(job, odd == 2), epoch)

    def send(self, command: cmd.Command) -> None:
        """The model hears of it at once: it needs no batches."""
        self.waiting.append(command)
        self.expected.append(self.model.expect(command, self.ledger.now))
        if len(self.waiting) >= self.batch_size:
            self.flush()

    def flush(self) -> None:
        commands, expected = self.waiting, self.expected
        self.waiting, self.expected = [], []
        for command, wanted, answer in zip(commands, expected, self.ledger.commit(commands), strict=True):
            name = type(command).__name__
            if isinstance(answer, Rejected):
                assert wanted == REFUSED, f"{name} was refused: {answer.message}"
                seen["refused"] += 1
                self.refusal_may_be_recorded(answer)
                continue
            assert wanted != REFUSED, f"{name} was carried out and should have been refused"
            seen[f"{name} {wanted}"] += 1
            self.check_events(answer, wanted)
        self.check_models()

    def refusal_may_be_recorded(self, answer: Rejected) -> None:
        """One for the quota is an event, of a command that was not carried out."""
        following = self.ledger.events[self.checked : self.checked + 1]
        if isinstance(answer, QuotaExceeded) and any(
            isinstance(event.body, ev.SubmissionRefused) for event in following
        ):
            self.checked += 1
            seen["refusal recorded"] += 1

    def check_events(self, events: list[ev.Event], wanted: str) -> None:
        for event in events:
            assert event.position == self.checked + 1, "no gaps, in order"
            assert event == self.ledger.events[self.checked]
            earlier = self.ledger.events[self.checked - 1]
            assert event.recorded_at >= earlier.recorded_at
            assert event.occurred_at <= event.recorded_at
            self.checked += 1
            if isinstance(event.body, ev.Move) and event.job is not None:
                self.check_move(event, event.job, event.body)
        moves = [event.body for event in events if isinstance(event.body, ev.Move)]
        if moves and wanted != "set":
            assert moves[-1].target == wanted

    def check_move(self, event: ev.Event, job: UUID, body: ev.Move) -> None:
        assert body.source == self.state.get(job), "a move begins where the last one ended"
        self.state[job] = str(body.target)
        if body.source is None or body.source == body.target:
            return
        assert (body.source, body.target) in ARROWS
        assert event.occurred_at >= self.last_move.get(job, event.occurred_at), "moves go forward in time"
        self.last_move[job] = event.occurred_at

    def check_models(self) -> None:
        for name, job in self.model.jobs.items():
            found = self.ledger.rows.get("status", str(name))
            assert (found.state, found.run, found.deleted) == (job.state, job.run, job.deleted)
            assert (found.erased_at is not None) == job.erased
            assert (found.volumes_kept, found.push_ordered) == (job.kept, job.pushing)
            assert found.last_transition_at == job.since
        for project in PROJECTS:
            quota = self.ledger.rows.get("quota", project)
            recount = {"cpu": 0, "gpu": 0}
            for job in self.model.jobs.values():
                if job.project == project and job.state in USES_QUOTA:
                    recount[job.kind] += job.units
            assert {"cpu": quota.cpu_used, "gpu": quota.gpu_used} == recount

    @invariant()
    def nothing_is_over_quota_that_was_let_in(self) -> None:
        """At every RunQueued and JobSubmitted, the units in use were within the limit in force."""
        used: dict[tuple[Any, Any], int] = defaultdict(int)
        limits: dict[Any, Any] = {}
        for event in self.ledger.events:
            body = event.body
            if isinstance(body, ev.ProjectCreated | ev.QuotaSet):
                limits[event.project] = body
            elif isinstance(body, ev.Move):
                key = (event.project, body.kind)
                before, after = str(body.source) in USES_QUOTA, str(body.target) in USES_QUOTA
                used[key] += (after - before) * body.units
                assert used[key] >= 0
                if after and not before:
                    assert used[key] <= getattr(limits[event.project], body.kind)

    @invariant()
    def at_most_one_run_of_a_job_lives(self) -> None:
        live: dict[UUID, set[int]] = defaultdict(set)
        for event in self.ledger.events:
            if isinstance(event.body, ev.Move) and event.job is not None and event.run is not None:
                live[event.job].discard(event.run)
                if str(event.body.target) not in OVER:
                    live[event.job].add(event.run)
                if isinstance(event.body, ev.RunQueued):
                    live[event.job].discard(event.run - 1)
                    seen["run queued again"] += 1
                assert len(live[event.job]) <= 1

    def check_spend(self) -> None:
        """What each project has spent this month, against the second opinion on each of its runs."""
        now = self.ledger.now
        for project in PROJECTS:
            row = self.ledger.rows.get("spend", project) if self.knows_spend(project) else None
            spent = row.spent(Month.of(now), "EUR", now) if row else 0
            ours = [event for event in self.ledger.events if event.project == project]
            assert spent == spent_in(f"{now:%Y-%m}", ours, now)
            runs = [run for (fold, _), run in self.ledger.rows.items() if fold == "billing" and run]
            of_project = [run for run in runs if run.project == project]
            bill = statement(project, Month.of(now), of_project, [], AsOf(len(ours), now))
            assert spent == sum(each.total for each in bill.totals) + sum(each.amount for each in bill.open)
            seen["spent"] += spent > 0

    def knows_spend(self, project: str) -> bool:
        return ("spend", project) in self.ledger.rows

    def refusals_do_not_fill_the_ledger(self) -> None:
        """The same one once a minute, and few different ones."""
        recorded = [event for event in self.ledger.events if isinstance(event.body, ev.SubmissionRefused)]
        for at, event in enumerate(recorded):
            before = [
                each
                for each in recorded[:at]
                if each.project == event.project and event.recorded_at - each.recorded_at < MINUTE
            ]
            assert len(before) < MOST_A_MINUTE
            assert event.body.digest not in [each.body.digest for each in before]

    def teardown(self) -> None:
        """Every bill, under every policy, against the second opinion."""
        self.flush()
        self.check_spend()
        self.refusals_do_not_fill_the_ledger()
        runs: dict[tuple[UUID, int], list[ev.Event]] = defaultdict(list)
        for event in self.ledger.events:
            if event.job is not None and event.run is not None:
                runs[event.job, event.run].append(event)
        for (job, run), events in runs.items():
            bill = self.ledger.rows.get("billing", f"{job}/{run}")
            proofs = [e.position for e in events if isinstance(e.body, ev.Move | ev.RunAdopted)]
            assert list(bill.positions) == proofs
            for policy in POLICIES:
                found = under(bill, policy)
                assert found.minutes == minutes_of(events, policy)
                assert found.net == amount_of(events, policy)
                billed = window(bill.marks, policy)
                if billed is not None:
                    rest = billed.end - billed.start - absent(bill.marks, bill.absences, policy)
                    assert found.minutes == math.ceil(seconds(rest) / 60), "the line can be checked by hand"
                seen["billed"] += found.minutes > 0


AnyOrder.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestAnyOrder = AnyOrder.TestCase


def test_long_walks_go_everywhere() -> None:
    """The same machine, without Hypothesis's liking for the simple: everything as likely, and for longer.

    A walk that never bills, restarts or refuses would prove nothing, so that is counted.
    """
    seen.clear()
    for seed in range(10):
        walked(Random(seed))
    reached = {what.partition(" ")[0] for what in seen}
    kinds = (*cmd.JobCommand.__subclasses__(), *cmd.RunCommand.__subclasses__())
    assert {kind.__name__ for kind in kinds} <= reached
    for what in (
        "refused",
        "refusal recorded",
        "billed",
        "spent",
        "run queued again",
        "FinalizeRun QUEUED",
        "KillJob INTERRUPTING",
    ):
        assert seen[what] > 0, what
    for where in ("INTERRUPTING", "TIMEOUT"):
        assert seen[f"ReportStorageExceeded {where}"] > 0, where


def walked(chance: Random) -> AnyOrder:
    """The machine after a long walk, checked."""
    machine = AnyOrder()
    machine.begin(chance.randint(1, 4), chance.randint(1, 3), [a_spec(chance) for _ in JOBS])
    names = list(JOBS)
    for step in range(900):
        names = [UUID(int=100 * step + n) if machine.is_deleted(job) else job for n, job in enumerate(names)]
        one_step(machine, chance, chance.choice(names))
    machine.nothing_is_over_quota_that_was_let_in()
    machine.at_most_one_run_of_a_job_lives()
    machine.teardown()
    return machine


def a_spec(chance: Random) -> dict[str, Any]:
    return {
        "project": chance.choice(PROJECTS),
        "kind": chance.choice(["cpu", "gpu"]),
        "units": chance.choice([1, 1, 2, 4]),
        "timeout": chance.randint(1, 300),
        "timeout_auto_restart": chance.random() < 0.5,
    }


def one_step(machine: AnyOrder, chance: Random, job: UUID) -> None:
    pick = chance.randrange(10)
    skew = chance.choice([-90_000, -61, -60, -1, 0, 1, 90_000, chance.randint(-600, 60)])
    facts: dict[str, Any] = {
        "code": chance.choice([0, 1, 137]),
        "used": chance.choice([50 * 2**30, 50 * 2**30 + 1, 3001 * 2**30]),
        "oom": chance.random() < 0.5,
        "problem": chance.choice([None, None, PROBLEM]),
        "kept": chance.random() < 0.5,
        "sync": chance.choice(["RUNNING", "DONE", "FAILED"]),
        "sync_id": chance.choice(["s1", "s2"]),
    }
    match chance.choice(["wait", "gather", "wish", "wish", "report", "report", "report", "on", "on", "late"]):
        case "wait":
            machine.wait(chance.choice([0.000001, 59.999999, 60, 60.000001, chance.randint(0, 7200)]))
        case "gather":
            machine.gather(chance.randint(1, 6))
        case "wish":
            machine.wish(
                job, chance.choice(WISHES), a_spec(chance), chance.random() < 0.5, chance.randrange(20)
            )
        case "report":
            machine.report(job, chance.choice(REPORTS), skew, chance.randrange(40), facts)
        case "on" if machine.live():
            steps, pace_s = chance.randint(1, 4), chance.choice([0, 1, 60])
            machine.goes_on(pick, steps, pace_s, min(skew, 0), facts["code"], chance.choice(ASIDE))
        case "late" if machine.running():
            machine.time_runs_out(pick, chance.choice([-0.000001, 0, 1, 100_000]))
