"""Planning, without any engine or ledger: who gets a place, which GPUs, and what the others are told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from service.domain.events import Info
from service.domain.flavors import GIB
from service.domain.job import Job
from service.domain.scheduling import BEHIND, Need, Node, Placement, Plan, plan
from service.domain.spec import JobSpec, Resources
from service.domain.states import State

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE_S = 300.0
UUIDS = ("GPU-aaaaaaaa-0000-4000-8000-000000000001", "GPU-bbbbbbbb-0000-4000-8000-000000000002")


def node(cpus: int = 8, memory: int = 64, gpus: tuple[str, ...] = (), trouble: str = "") -> Node:
    return Node("n1", cpus, memory * GIB, gpus, trouble)


def job(
    number: int,
    project: str = "a",
    *,
    cpus: int = 1,
    memory: int = 1,
    gpus: int = 0,
    holds: tuple[str, ...] | None = None,
) -> Job:
    """A queued job; `number` orders the queue. With `holds` it is placed and has these GPUs."""
    resources = Resources(
        kind="gpu" if gpus else "cpu",
        units=gpus or cpus,
        flavor="f",
        cpus=cpus,
        memory=memory * GIB,
        ephemeral_storage=GIB,
    )
    return Job(
        id=UUID(int=number),
        project=project,
        run=1,
        state=State.QUEUED if holds is None else State.RUNNING,
        spec=JobSpec(image="i", name="n", resources=resources),
        user="u",
        created_at=NOW,
        updated_at=NOW,
        position=number,
        created_position=number,
        queued_position=number,
        queued_at=NOW,
        last_transition_at=NOW,
        gpus=holds or (),
        info=Info("queued", "."),
    )


def made(
    on: Node,
    queued: list[Job],
    placed: list[Job] | None = None,
    first_since: dict[UUID, datetime] | None = None,
) -> Plan:
    return plan(on, placed or [], queued, NOW, PATIENCE_S, first_since)


def numbers(of: Plan) -> list[int]:
    return [placement.job.id.int for placement in of.placements]


def since(**ages_s: float) -> dict[UUID, datetime]:
    """`j3=400`: job 3 has been first in its line for 400 s."""
    return {UUID(int=int(name[1:])): NOW - timedelta(seconds=age) for name, age in ages_s.items()}


class TestOrder:
    def test_a_project_is_served_in_the_order_of_its_queue(self) -> None:
        assert numbers(made(node(cpus=3), [job(3), job(1), job(2)])) == [1, 2, 3]

    def test_a_small_job_does_not_overtake_a_large_one_of_its_own_project(self) -> None:
        found = made(node(cpus=4), [job(2, cpus=4), job(3, cpus=1)], [job(1, cpus=2, holds=())])
        assert numbers(found) == []
        assert found.reasons[UUID(int=2)].code == "waiting-for-cpu"
        assert found.reasons[UUID(int=3)] == BEHIND

    def test_projects_take_turns_by_their_share(self) -> None:
        queued = [job(n, "a") for n in (1, 2, 3, 4)] + [job(n, "b") for n in (5, 6)]
        assert numbers(made(node(cpus=4), queued)) == [1, 5, 2, 6]

    def test_what_a_project_holds_already_counts(self) -> None:
        holding = [job(1, "a", cpus=2, holds=())]
        assert numbers(made(node(cpus=4), [job(2, "a"), job(3, "b"), job(4, "b")], holding)) == [3, 4]

    def test_the_share_is_the_largest_of_all_resources(self) -> None:
        """`a` holds a quarter of the memory and little else, `b` an eighth of the CPUs: `b` goes first."""
        holding = [job(1, "a", cpus=1, memory=16, holds=()), job(2, "b", cpus=2, memory=1, holds=())]
        on = node(cpus=16)
        assert numbers(made(on, [job(3, "a"), job(4, "b")], holding)) == [4, 3]

    def test_a_job_of_another_project_passes_one_that_lacks_room(self) -> None:
        found = made(node(cpus=4), [job(2, "a", cpus=4), job(3, "b")], [job(1, "c", cpus=2, holds=())])
        assert numbers(found) == [3]


class TestGpus:
    def test_each_device_goes_to_one_job(self) -> None:
        on = node(gpus=("0", "1", "2"))
        found = made(on, [job(1, gpus=2), job(2, gpus=1), job(3, gpus=1)])
        assert [placement.gpus for placement in found.placements] == [("0", "1"), ("2",)]
        assert found.reasons[UUID(int=3)].code == "waiting-for-gpu"

    def test_devices_that_are_held_are_not_given_again(self) -> None:
        found = made(node(gpus=("0", "1", "2")), [job(2, gpus=2)], [job(1, gpus=1, holds=("1",))])
        assert found.placements[0].gpus == ("0", "2")

    def test_devices_come_back_with_the_job_that_held_them(self) -> None:
        on, holder, waiting = node(gpus=UUIDS), job(1, gpus=2, holds=UUIDS), job(2, gpus=2)
        assert numbers(made(on, [waiting], [holder])) == []
        assert made(on, [waiting]).placements == [Placement(waiting, UUIDS)]

    def test_a_cpu_job_gets_no_device(self) -> None:
        assert made(node(gpus=("0",)), [job(1)]).placements[0].gpus == ()


class TestReasons:
    def test_what_the_node_could_never_hold_waits_aside(self) -> None:
        found = made(node(cpus=4), [job(1, cpus=5), job(2)])
        assert numbers(found) == [2]
        reason = found.reasons[UUID(int=1)]
        assert reason.code == "no-node-offers"
        assert reason.arguments == {"resource": "cpus", "needed": 5, "offered": 4, "node": "n1"}

    def test_it_says_why_there_are_no_gpus(self) -> None:
        reason = made(node(trouble="none are configured"), [job(1, gpus=1)]).reasons[UUID(int=1)]
        assert reason.arguments["resource"] == "gpus"
        assert (reason.arguments["needed"], reason.arguments["offered"]) == (1, 0)
        assert "none are configured" in reason.message

    def test_it_names_what_there_is_too_little_of(self) -> None:
        held = [job(1, cpus=1, memory=60, holds=())]
        reason = made(node(), [job(2, memory=5)], held).reasons[UUID(int=2)]
        assert reason.code == "waiting-for-memory"
        assert reason.arguments == {"resource": "memory", "needed": 5 * GIB, "node": "n1"}

    def test_a_reason_does_not_change_while_others_come_and_go(self) -> None:
        """Each change would be an event: a job that waits long must not fill the ledger."""
        waiting = job(9, cpus=8)
        reasons = {
            held: made(node(), [waiting], [job(1, cpus=held, holds=())]).reasons[waiting.id].message
            for held in range(1, 9)
        }
        assert len(set(reasons.values())) == 1


class TestPatience:
    big, small = job(2, "a", cpus=4), job(3, "b")
    held = (job(1, "a", holds=()),)

    def test_at_first_others_pass(self) -> None:
        found = made(node(cpus=4), [self.big, self.small], [*self.held], since(j2=PATIENCE_S - 1))
        assert numbers(found) == [3]

    def test_then_what_becomes_free_is_held(self) -> None:
        """Also against a project that has less: or a stream of its small jobs would pass for ever."""
        found = made(node(cpus=4), [self.big, self.small], [*self.held], since(j2=PATIENCE_S))
        assert numbers(found) == []
        assert found.reasons[self.small.id] == BEHIND

    def test_and_it_gets_the_place_when_there_is_room(self) -> None:
        assert numbers(made(node(cpus=4), [self.small, self.big], [], since(j2=PATIENCE_S))) == [2]

    def test_a_stream_of_small_jobs_does_not_starve_a_large_one(self) -> None:
        """Each round one small job ends and another comes, and the large one has waited a minute more."""
        room, running = node(cpus=4), [*self.held]
        first: dict[UUID, datetime] = {}
        for minute in range(20):
            at = NOW + timedelta(minutes=minute)
            queued = [self.big, job(100 + minute, "b")]
            found = plan(room, running, queued, at, PATIENCE_S, first)
            if self.big.id.int in numbers(found):
                assert minute > 5
                return
            first = {waiting: first.get(waiting, at) for waiting in found.first}
            running = [placement.job for placement in found.placements]  # whatever ran has ended
            running += [*self.held] if minute < 6 else []
        raise AssertionError("the large job never got its place")

    def test_a_long_queue_is_no_way_to_the_front(self) -> None:
        """Only time at the head of the line counts: the second of `a` has had none."""
        queued = [job(1, "a"), job(2, "a"), job(3, "b")]
        found = made(node(cpus=2), queued, [], since(j1=PATIENCE_S))
        assert numbers(found) == [1, 3]

    def test_a_job_that_never_fits_holds_nothing(self) -> None:
        found = made(node(cpus=4), [job(1, "a", cpus=5), job(2, "b")], [], since(j1=10 * PATIENCE_S))
        assert numbers(found) == [2]

    def test_the_heads_of_the_lines_are_told(self) -> None:
        queued = [job(n, "a", cpus=3) for n in (1, 2, 3)] + [job(4, "b", cpus=3)]
        assert made(node(cpus=4), queued).first == [UUID(int=2), UUID(int=4)]


@dataclass(frozen=True)
class Case:
    node: Node
    placed: list[Job]
    queued: list[Job]
    first_since: dict[UUID, datetime]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    gpus = (*UUIDS, "2", "3")
    on = node(draw(st.integers(1, 16)), draw(st.integers(1, 64)), gpus[: draw(st.integers(0, 4))])
    projects = st.sampled_from("abc")
    count = draw(st.integers(0, 12))
    wanted = [
        job(
            number,
            draw(projects),
            cpus=draw(st.integers(1, 8)),
            memory=draw(st.integers(1, 16)),
            gpus=draw(st.integers(0, 2)),
        )
        for number in range(1, count + 1)
    ]
    # What is placed was planned: so it fits.
    cut = draw(st.integers(0, count))
    before = plan(on, [], wanted[:cut], NOW, PATIENCE_S)
    placed = [_held(placement) for placement in before.placements]
    # Only who is first in a line has been first in it: whoever was, is so until it is placed.
    ages = draw(st.lists(st.floats(0, 2 * PATIENCE_S), min_size=3, max_size=3))
    heads = _heads(on, wanted[cut:])
    first = {
        each.id: NOW - timedelta(seconds=age) for each, age in zip(heads, ages, strict=False) if age > 10
    }
    return Case(on, placed, draw(st.permutations(wanted[cut:])), first)


def _heads(on: Node, queued: list[Job]) -> list[Job]:
    """The first job of each project that the node could hold at all."""
    whole = Need(on.cpus, on.memory_bytes, len(on.gpus))
    fitting = [each for each in queued if Need.of(each).lacking(whole) is None]
    lines = [[each for each in fitting if each.project == project] for project in "abc"]
    return [min(line, key=lambda each: each.queued_position) for line in lines if line]


def _held(placement: Placement) -> Job:
    resources = placement.job.spec.resources
    return job(
        placement.job.id.int,
        placement.job.project,
        cpus=resources.cpus,
        memory=resources.memory // GIB,
        gpus=resources.gpus,
        holds=placement.gpus,
    )


def planned(case: Case) -> Plan:
    return plan(case.node, case.placed, case.queued, NOW, PATIENCE_S, case.first_since)


@given(cases())
def test_never_over_capacity_and_no_device_twice(case: Case) -> None:
    running = case.placed + [_held(placement) for placement in planned(case).placements]
    assert sum(each.spec.resources.cpus for each in running) <= case.node.cpus
    assert sum(each.spec.resources.memory for each in running) <= case.node.memory_bytes
    devices = Counter(gpu for each in running for gpu in each.gpus)
    assert set(devices) <= set(case.node.gpus)
    assert all(count == 1 for count in devices.values())
    assert all(len(each.gpus) == each.spec.resources.gpus for each in running)


@given(cases())
def test_every_queued_job_is_placed_or_told_why_not(case: Case) -> None:
    found = planned(case)
    placed = {placement.job.id for placement in found.placements}
    assert placed | set(found.reasons) == {each.id for each in case.queued}
    assert not placed & set(found.reasons)
    assert len(placed) == len(found.placements)


@given(cases())
def test_within_a_project_nobody_overtakes(case: Case) -> None:
    found = planned(case)
    aside = {each for each, reason in found.reasons.items() if reason.code == "no-node-offers"}
    for project in "abc":
        line = sorted(each.id.int for each in case.queued if each.project == project and each.id not in aside)
        mine = [placement.job.id.int for placement in found.placements if placement.job.project == project]
        assert mine == line[: len(mine)]


@given(cases())
def test_no_room_is_left_that_the_head_of_a_line_could_use(case: Case) -> None:
    """Unless it is held for a job that has waited too long."""
    found = planned(case)
    running = case.placed + [_held(placement) for placement in found.placements]
    free = Need(
        case.node.cpus - sum(each.spec.resources.cpus for each in running),
        case.node.memory_bytes - sum(each.spec.resources.memory for each in running),
        len(case.node.gpus) - sum(len(each.gpus) for each in running),
    )
    tired = {each for each, at in case.first_since.items() if at <= NOW - timedelta(seconds=PATIENCE_S)}
    if tired & {each for each in found.first if found.reasons[each] != BEHIND}:
        return
    by_id = {each.id: each for each in case.queued}
    assert all(Need.of(by_id[each]).lacking(free) is not None for each in found.first)


def test_the_reason_is_what_is_lacking_at_the_end() -> None:
    """The CPUs were there when the second project had its turn, and gone when the plan was done."""
    running = [job(1, "a", holds=()), job(2, "a", holds=())]
    small, big = job(3, "a"), job(4, "b", cpus=7, memory=2)
    found = plan(node(9, 3), running, [small, big], NOW, PATIENCE_S)
    assert [placement.job.id for placement in found.placements] == [small.id]
    assert found.reasons[big.id].code == "waiting-for-cpu"


@given(cases())
def test_planning_again_without_news_says_the_same(case: Case) -> None:
    """What was placed holds its place now; nobody else moves, and nobody is told anything new."""
    once = planned(case)
    running = case.placed + [_held(placement) for placement in once.placements]
    left = [each for each in case.queued if each.id in once.reasons]
    first_since = {each: case.first_since.get(each, NOW) for each in once.first}
    again = plan(case.node, running, left, NOW, PATIENCE_S, first_since)
    assert (again.placements, again.reasons) == ([], once.reasons)
