"""What every Engine does, whatever it is made of. The same tests run against Docker and against the fake."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest

from service.errors import (
    EngineError,
    GpuDriverMissing,
    ImageUnavailable,
    NameTaken,
    NetworkBroken,
    NoSuchContainer,
    Unavailable,
)
from service.supervisor.engine.create import spec_hash
from service.supervisor.engine.protocol import SUBSCRIBED
from tests.images import BUSYBOX, remove_network
from tests.supervisor.lab import (
    DONE,
    FAILS_3,
    IGNORES_SIGTERM,
    LABEL,
    NOT_THERE,
    RUNS_ON,
    TALKS,
    WRITES,
    Behaviour,
    Lab,
)
from tests.support.engine.fake import FakeEngine

UNKNOWN = "f" * 64
MIB = 1024**2


async def test_info_says_who_and_how_big(either: Lab) -> None:
    info = await either.engine.info()
    assert info.id == (await either.engine.info()).id != ""
    assert info.cpus >= 1
    assert info.memory_bytes > 2**28


async def test_a_created_container_can_be_found_by_name_and_id(either: Lab) -> None:
    spec = either.spec(RUNS_ON)
    container_id = await either.engine.create(spec)
    found = await either.engine.find(spec.name)
    assert found is not None
    assert found == await either.engine.find(container_id)
    assert (found.id, found.name, found.state) == (container_id, spec.name, "created")
    assert (found.exit_code, found.started_at, found.finished_at) == (None, None, None)
    assert found.labels[LABEL] == either.key
    image = await either.engine.image(BUSYBOX)
    assert image is not None
    assert found.image_id == image.id


async def test_a_taken_name_can_be_compared_and_adopted(either: Lab) -> None:
    spec = either.spec(RUNS_ON, env=(("A", "1"),))
    first = await either.engine.create(spec)
    with pytest.raises(NameTaken):
        await either.engine.create(spec)
    found = await either.engine.find(spec.name)
    assert found is not None
    assert found.id == first
    later_epoch = replace(spec, labels={**spec.labels, "epoch": "2"})
    assert found.spec_hash == spec_hash(spec) == spec_hash(later_epoch)
    assert found.spec_hash != spec_hash(replace(spec, env=(("A", "2"),)))


async def test_what_is_not_there(either: Lab) -> None:
    assert await either.engine.find(UNKNOWN) is None
    assert await either.engine.image("jobyard-test/no-such-image:1") is None
    with pytest.raises(NoSuchContainer):
        await either.engine.start(UNKNOWN)
    with pytest.raises(NoSuchContainer):
        await either.engine.stop(UNKNOWN, 1)
    with pytest.raises(NoSuchContainer):
        await either.output(UNKNOWN)
    with pytest.raises(NoSuchContainer):
        await either.engine.usage(UNKNOWN)
    await either.engine.remove(UNKNOWN)


async def test_an_image_that_is_not_held(either: Lab) -> None:
    with pytest.raises(ImageUnavailable):
        await either.engine.create(either.spec(DONE, image="jobyard-test/no-such-image:1"))
    with pytest.raises(ImageUnavailable) as refused:
        await either.engine.pull("Not A Reference")
    assert refused.value.passing is False


async def test_an_image_is_found_by_its_id(either: Lab) -> None:
    by_name = await either.engine.image(BUSYBOX)
    assert by_name is not None
    assert (by_name.os, by_name.architecture) == ("linux", "amd64")
    assert await either.engine.image(by_name.id) == by_name


@pytest.mark.parametrize(("behaviour", "code"), [(DONE, 0), (FAILS_3, 3), (NOT_THERE, 127)])
async def test_exit_codes(either: Lab, behaviour: Behaviour, code: int) -> None:
    ended = await either.ended(behaviour)
    assert (ended.exit_code, ended.oom_killed) == (code, False)
    assert ended.started_at is not None
    assert ended.finished_at is not None
    # Which of the two is earlier is not sure: a process that ends at once has been seen to end a
    # millisecond before the engine's start time. The domain keeps times in order (`context.observed`).
    assert ended.started_at.utcoffset() == ended.finished_at.utcoffset() == timedelta(0)


async def test_start_is_idempotent_and_shows_the_address(either: Lab) -> None:
    container_id = await either.started(RUNS_ON)
    first = await either.engine.find(container_id)
    await either.engine.start(container_id)
    again = await either.engine.find(container_id)
    assert first is not None
    assert again is not None
    assert (again.state, again.started_at) == ("running", first.started_at)
    assert again.ip is not None


async def test_stop_lets_the_program_end_itself(either: Lab) -> None:
    container_id = await either.started(RUNS_ON)
    await either.printed(container_id, b"ready")
    await either.engine.stop(container_id, 20)
    found = await either.engine.find(container_id)
    assert found is not None
    assert (found.state, found.exit_code) == ("exited", 7)
    await either.engine.stop(container_id, 20)
    assert await either.engine.find(container_id) == found


async def test_stop_kills_what_will_not_end(either: Lab) -> None:
    container_id = await either.started(IGNORES_SIGTERM)
    await either.printed(container_id, b"ready")
    await either.engine.stop(container_id, 1)
    found = await either.engine.find(container_id)
    assert found is not None
    assert (found.state, found.exit_code, found.oom_killed) == ("exited", 137, False)


async def test_what_was_removed_is_remembered(either: Lab) -> None:
    container = await either.engine.create(either.spec(DONE))
    assert not await either.engine.was_removed(container)
    await either.engine.remove(container)
    assert await either.engine.was_removed(container)
    assert not await either.engine.was_removed("0" * 64)


async def test_what_was_started_is_known_although_it_is_gone(either: Lab) -> None:
    key = {LABEL: either.key}
    made = await either.engine.create(either.spec(DONE))
    assert not await either.engine.was_started(key)
    await either.engine.remove(made)
    assert not await either.engine.was_started(key)
    begun = await either.ended(DONE)
    await either.engine.remove(begun.id)
    assert await either.engine.was_started(key)
    assert not await either.engine.was_started(key | {"another": "label"})


async def test_an_engine_that_remembers_a_start_has_not_begun_anew(either: Lab) -> None:
    key = {LABEL: either.key}
    begun = await either.ended(DONE)
    assert not await either.engine.began_anew(key)
    await either.engine.remove(begun.id)
    assert not await either.engine.began_anew(key)


async def test_who_was_told_to_stop_is_known_and_who_ended_alone_was_not(either: Lab) -> None:
    alone = await either.ended(FAILS_3)
    container_id = await either.started(RUNS_ON)
    await either.printed(container_id, b"ready")
    await either.engine.stop(container_id, 20)
    stopped = await either.engine.find(container_id)
    assert stopped is not None
    assert [await either.engine.was_told_to_stop(each) for each in (alone, stopped)] == [False, True]


async def test_remove_is_idempotent_and_never_by_surprise(either: Lab) -> None:
    container_id = await either.started(RUNS_ON)
    with pytest.raises(EngineError):
        await either.engine.remove(container_id)
    assert await either.engine.find(container_id) is not None
    await either.engine.remove(container_id, force=True)
    await either.engine.remove(container_id)
    assert await either.engine.find(container_id) is None


async def test_what_a_container_takes_of_the_disk(either: Lab) -> None:
    container_id = await either.started(WRITES)
    await either.printed(container_id, b"ready")
    running = await either.engine.usage(container_id)
    assert MIB <= running.bytes < 2 * MIB
    assert running.missed == ()
    await either.engine.stop(container_id, 20)
    assert MIB <= (await either.engine.usage(container_id)).bytes < 2 * MIB, "also when it has ended"
    idle = await either.engine.create(either.spec(DONE))
    assert (await either.engine.usage(idle)).bytes < MIB


async def test_a_bound_on_its_storage_makes_no_other_container_of_it(either: Lab) -> None:
    """Whether or not the engine's storage driver can hold it, the container is there and can be adopted."""
    bounded = either.spec(DONE, storage_bytes=64 * MIB)
    found = await either.engine.find(await either.engine.create(bounded))
    assert found is not None
    assert found.spec_hash == spec_hash(bounded) == spec_hash(replace(bounded, storage_bytes=None))


async def test_output_of_both_streams_with_times(either: Lab) -> None:
    ended = await either.ended(TALKS)
    chunks = await either.output(ended.id)
    by_stream = {stream: [c.payload for c in chunks if c.stream == stream] for stream in (1, 2)}
    assert by_stream == {1: [b"one\n", b"two\n", b"three"], 2: [b"problem\n"]}
    assert all(len(chunk.timestamp) == 30 and chunk.timestamp.endswith("Z") for chunk in chunks)


async def test_output_since_and_tail(either: Lab) -> None:
    ended = await either.ended(TALKS)
    chunks = await either.output(ended.id)
    for moment in sorted({chunk.timestamp for chunk in chunks}):
        expected = [chunk for chunk in chunks if chunk.timestamp >= moment]
        assert await either.output(ended.id, since=moment) == expected
    assert await either.output(ended.id, tail=2) == chunks[-2:]


async def test_following_ends_with_the_container(either: Lab) -> None:
    container_id = await either.started(RUNS_ON)
    follower = asyncio.create_task(either.output(container_id, follow=True))
    await either.printed(container_id, b"ready")
    await either.engine.stop(container_id, 20)
    async with asyncio.timeout(30):
        assert [chunk.payload for chunk in await follower] == [b"ready\n"]


async def test_list_by_label_in_any_state(either: Lab) -> None:
    created = await either.engine.create(either.spec(DONE))
    running = await either.started(RUNS_ON)
    exited = (await either.ended(DONE, labels={LABEL: either.key, "more": "x"})).id
    await either.engine.create(either.spec(DONE, labels={LABEL: either.key + "-other"}))
    listed = {each.id: each.state for each in await either.engine.list({LABEL: either.key})}
    assert listed == {created: "created", running: "running", exited: "exited"}
    assert [each.id for each in await either.engine.list({LABEL: either.key, "more": ""})] == [exited]
    for other in await either.engine.list({LABEL: either.key + "-other"}):
        await either.engine.remove(other.id)


async def test_events_wake(either: Lab) -> None:
    async with asyncio.timeout(30), aclosing(either.engine.events()) as events:
        assert await anext(events) == SUBSCRIBED
        container_id = await either.started(DONE)
        while (hint := await anext(events)).container_id != container_id:
            continue
        assert hint.labels[LABEL] == either.key


async def test_a_network_is_made_once(either: Lab) -> None:
    name = f"t-{either.key}"
    first = await either.engine.ensure_network(name, {LABEL: either.key})
    try:
        assert await either.engine.ensure_network(name, {LABEL: either.key}) == first
        with pytest.raises(EngineError):
            await either.engine.ensure_network(name, {LABEL: "of somebody else"})
        await either.ended(DONE, network=first)
    finally:
        await either.clean()
        if either.is_real:
            remove_network(first)


async def test_a_network_whose_link_is_gone_is_made_anew(either: Lab) -> None:
    """But not under a container that is in it, and not in place of one that is whole."""
    name, labels = f"t-{either.key}", {LABEL: either.key}
    old = await either.engine.ensure_network(name, labels)
    try:
        live = await either.started(RUNS_ON, network=name)
        refused = await either.engine.create(either.spec(DONE, network=name))
        await _take_link(either, old)
        with pytest.raises(NetworkBroken) as raised:
            await either.engine.start(refused)
        assert raised.value.network == old[:12]
        found = await either.engine.find(refused)
        assert found is not None and found.state == "created"
        assert not await either.engine.drop_network(name, labels, broken=old[:12])
        await either.engine.remove(live, force=True)
        assert await either.engine.drop_network(name, {LABEL: "of somebody else"}, broken=old[:12])
        assert await either.engine.ensure_network(name, labels) == old
        assert await either.engine.drop_network(name, labels, broken=old[:12])
        new = await either.engine.ensure_network(name, labels)
        assert new != old
        assert await either.engine.drop_network(name, labels, broken=old[:12])
        assert await either.engine.ensure_network(name, labels) == new
        await either.ended(DONE, network=name)
    finally:
        await either.clean()
        if either.is_real:
            remove_network(name)


async def _take_link(either: Lab, network: str) -> None:
    if isinstance(either.engine, FakeEngine):
        either.engine.break_network(network)
        return
    process = await asyncio.create_subprocess_exec("ip", "link", "delete", f"br-{network[:12]}")
    assert await process.wait() == 0


async def test_gpus_need_a_driver(either: Lab) -> None:
    container_id = await either.engine.create(either.spec(DONE, gpus=("0",)))
    with pytest.raises(GpuDriverMissing):
        await either.engine.start(container_id)
    found = await either.engine.find(container_id)
    assert found is not None
    assert (found.state, found.error != "") == ("created", True)


@pytest.mark.parametrize("name", ["../../info", "a/b", "a?x=1", "", "-x", "ä"])
async def test_names_that_do_not_belong_in_a_request(either: Lab, name: str) -> None:
    with pytest.raises(EngineError):
        await either.engine.find(name)
    with pytest.raises(EngineError):
        await either.engine.create(either.spec(DONE, name=name))


async def test_a_closed_engine_is_unavailable_to_its_listeners(either: Lab) -> None:
    async with asyncio.timeout(30), aclosing(either.engine.events()) as events:
        assert await anext(events) == SUBSCRIBED
        await either.close()
        with pytest.raises(Unavailable):
            while True:
                await anext(events)
