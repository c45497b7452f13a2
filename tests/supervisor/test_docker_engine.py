"""What only a real engine can show: the walls around a job, the body that reaches the engine, lost lines."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from service.errors import CommandUnusable, EngineError, GpuDriverMissing, MountRefused, Unavailable
from service.supervisor.engine import docker as docker_engine
from service.supervisor.engine.create import create_body
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.firewall import block_metadata, metadata_rules
from service.supervisor.engine.memory import with_oom_events
from service.supervisor.engine.protocol import LABEL_SPEC, SUBSCRIBED, Mount
from service.supervisor.engine.recent import EngineClock
from service.supervisor.engine.refusals import without_paths
from service.supervisor.engine.told import told_to_stop
from service.supervisor.engine.wire import Wire
from tests.images import import_greeter, make_network, networks_named, remove_network
from tests.supervisor.lab import DONE, RUNS_ON, Behaviour, Lab, shell
from tests.supervisor.relay import Relay
from tests.support.engine.scripted import Script

FACTS = """
id -u; id -g
grep -E 'CapEff|CapBnd|CapPrm|NoNewPrivs|Seccomp:' /proc/self/status
cat /proc/1/comm
touch /forbidden 2>/dev/null && echo wrote-to-root
ls /run/docker.sock /var/run/docker.sock 2>/dev/null
ulimit -n
cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max
ls /proc | grep -cE '^[0-9]+$'
"""


async def test_the_walls_as_seen_from_inside(lab: Lab) -> None:
    seen = (await lab.text((await lab.run(FACTS)).id)).split("\n")
    status = dict(line.split(":\t") for line in seen if ":\t" in line)
    assert seen[:2] == ["42420", "42420"]
    assert status["CapEff"] == status["CapBnd"] == status["CapPrm"] == "0" * 16
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert "docker-init" in seen
    assert not {"wrote-to-root", "/run/docker.sock", "/var/run/docker.sock"} & set(seen)
    assert {"16384", str(64 * 1024**2)} <= set(seen)
    assert int(seen[-2]) < 10  # its own processes only


async def test_processes_are_limited(lab: Lab) -> None:
    ended = await lab.run("i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all", pids_limit=16)
    text = await lab.text(ended.id)
    assert "can't fork" in text
    assert "all" not in text


async def test_memory_is_limited_and_a_kill_for_it_is_flagged(lab: Lab) -> None:
    """The engine misses some kills (see `engine/memory.py`), so one of several has to be flagged."""
    eats = Behaviour(("tail", "-c", "500m", "/dev/zero"), Script())
    ended = [await lab.ended(eats, memory_bytes=32 * 1024**2) for _ in range(4)]
    assert [container.exit_code for container in ended] == [137] * 4
    assert any(container.oom_killed for container in ended)


async def test_a_kill_for_memory_that_the_engine_did_not_flag_is_found_in_its_events(lab: Lab) -> None:
    eats = Behaviour(("tail", "-c", "500m", "/dev/zero"), Script())
    ended = [await lab.ended(eats, memory_bytes=32 * 1024**2) for _ in range(4)]
    wire = Wire()
    try:
        clock = EngineClock(wire)
        told = [await with_oom_events(wire, clock, replace(found, oom_killed=False), 30) for found in ended]
    finally:
        await wire.close()
    assert any(container.oom_killed for container in told)


async def test_nobody_waits_for_an_end_that_is_still_to_come_by_a_clock_that_was_set_back(lab: Lab) -> None:
    """The engine answers for a range of times once the last of it is past."""
    ended, ahead = await lab.run("kill -9 $$"), timedelta(hours=1)
    assert ended.started_at is not None and ended.finished_at is not None
    later = replace(ended, started_at=ended.started_at + ahead, finished_at=ended.finished_at + ahead)
    wire = Wire()
    try:
        for found in (replace(ended, finished_at=later.finished_at), later):
            assert not (await with_oom_events(wire, EngineClock(wire), found, 30)).oom_killed
        assert not await told_to_stop(wire, EngineClock(wire), later, 30)
    finally:
        await wire.close()


async def test_a_kill_from_outside_is_not_taken_for_one_for_memory(lab: Lab) -> None:
    ended = await lab.run("kill -9 $$")
    assert (ended.exit_code, ended.oom_killed) == (137, False)


async def test_a_signal_that_ends_no_process_is_no_order_to_stop(lab: Lab, tmp_path: Path) -> None:
    wire = Wire()
    tmp_path.chmod(0o755)
    does = shell("trap '' HUP; echo ready; until [ -e /go/on ]; do sleep 0.05; done")
    container_id = await lab.started(
        Behaviour(does, Script()), mounts=(Mount(str(tmp_path), "/go", read_only=True),)
    )
    await lab.printed(container_id, b"ready")
    try:
        sent = await wire.call("POST", f"/containers/{container_id}/kill?signal=HUP", timeout_s=30)
    finally:
        await wire.close()
    assert sent.status == 204
    (tmp_path / "on").touch()
    assert not await lab.engine.was_told_to_stop(await lab.end(container_id))


async def test_mounts(lab: Lab, tmp_path: Path) -> None:
    for name, mode in (("ro", 0o777), ("rw", 0o777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    mounts = (Mount(str(tmp_path / "ro"), "/ro", read_only=True), Mount(str(tmp_path / "rw"), "/rw"))
    await lab.run("echo x > /ro/file; echo y > /rw/file", mounts=mounts)
    assert [path.name for path in tmp_path.glob("*/file")] == ["file"]
    assert (tmp_path / "rw" / "file").stat().st_uid == 42420


async def test_a_missing_mount_is_refused_not_made(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="does not exist"):
        await lab.engine.create(lab.spec(DONE, mounts=(Mount(str(tmp_path / "none"), "/x"),)))
    assert not (tmp_path / "none").exists()


async def test_an_engines_socket_is_refused_by_any_name(lab: Lab, tmp_path: Path) -> None:
    async with Relay(tmp_path / "plain-name"):
        (tmp_path / "link").symlink_to(tmp_path / "plain-name")
        for name in ("plain-name", "link"):
            with pytest.raises(EngineError, match="socket"):
                await lab.engine.create(lab.spec(DONE, mounts=(Mount(str(tmp_path / name), "/x"),)))


@pytest.mark.parametrize(
    ("at", "kind", "says"),
    [
        ("/bin/busybox", MountRefused, "mounted at /bin/busybox: it is a file of the image"),
        ("/bin/busybox/x", MountRefused, "mounted at /bin/busybox/x: it is a file of the image"),
        ("/etc", MountRefused, "mounted at /etc/resolv.conf: a volume that is read-only"),
        ("/etc/passwd", CommandUnusable, "unable to find user"),
        ("/sbin", CommandUnusable, 'exec: "/sbin/docker-init": stat'),
    ],
)
async def test_a_volume_where_none_can_be_is_the_jobs_fault_and_shows_nothing_of_the_host(
    lab: Lab, tmp_path: Path, at: str, kind: type[EngineError], says: str
) -> None:
    container_id = await lab.engine.create(lab.spec(DONE, mounts=(Mount(str(tmp_path), at, True),)))
    with pytest.raises(kind) as refused:
        await lab.engine.start(container_id)
    assert says in refused.value.message
    for hidden in (str(tmp_path), "/tmp", "overlay", "docker/data", container_id):
        assert hidden not in refused.value.message


async def test_a_source_that_went_away_is_not_the_jobs_fault(lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "v"
    source.mkdir()
    container_id = await lab.engine.create(lab.spec(DONE, mounts=(Mount(str(source), "/x", True),)))
    source.rmdir()
    with pytest.raises(EngineError) as refused:
        await lab.engine.start(container_id)
    assert type(refused.value) is EngineError
    assert "/" not in without_paths(refused.value.message)


SAID = [
    (
        'error mounting "/var/a b/c" to rootfs at "/x": mount /var/lib/y:/x (via /proc/self/fd/6)',
        "error mounting (a path) to rootfs at (a path): mount (a path) (via (a path))",
    ),
    ("write /var/lib/docker/tmp/Get1: input/output error", "write (a path): input/output error"),
    ("docker.io/library/x:1 of https://host:5000/v2/x", "docker.io/library/x:1 of https://host:5000/v2/x"),
]


@pytest.mark.parametrize(("said", "left"), SAID)
def test_paths_are_taken_out_of_what_users_read(said: str, left: str) -> None:
    assert without_paths(said) == left


async def test_a_command_replaces_entrypoint_and_command(lab: Lab) -> None:
    greeter = import_greeter()
    own = await lab.ended(Behaviour((), Script()), image=greeter, command=None)
    assert await lab.text(own.id) == "hello world\n"
    given = await lab.ended(Behaviour(("echo", "other"), Script()), image=greeter)
    assert await lab.text(given.id) == "other\n"


async def test_an_image_without_a_command(lab: Lab) -> None:
    with pytest.raises(CommandUnusable):
        await lab.engine.create(lab.spec(DONE, command=None))


async def test_a_long_line_arrives_whole_in_pieces_of_one_time(lab: Lab) -> None:
    ended = await lab.run("head -c 10000000 /dev/zero; echo; echo next")
    chunks = await lab.output(ended.id)
    pieces, last = chunks[:-1], chunks[-1]
    assert b"".join(chunk.payload for chunk in pieces).removesuffix(b"\n") == b"\0" * 10_000_000
    assert {chunk.timestamp for chunk in pieces} == {pieces[0].timestamp}
    assert last.payload == b"next\n"
    assert last.timestamp != pieces[0].timestamp


async def test_the_gpu_request_that_reaches_the_engine(lab: Lab, tmp_path: Path) -> None:
    async with Relay(tmp_path / "relay") as relay:
        engine = DockerEngine(relay.host)
        spec = lab.spec(DONE, gpus=("0", "GPU-5c1a"), env=(("TOKEN", "t"),))
        container_id = await engine.create(spec)
        with pytest.raises(GpuDriverMissing):
            await engine.start(container_id)
        await engine.close()
    assert relay.bodies() == [create_body(spec)]
    assert relay.bodies()[0]["HostConfig"]["DeviceRequests"] == [
        {"Driver": "nvidia", "DeviceIDs": ["0", "GPU-5c1a"], "Capabilities": [["gpu"]]}
    ]


async def test_a_hundred_followers_do_not_hold_up_an_inspect(lab: Lab) -> None:
    container_id = await lab.started(RUNS_ON)
    followers = [lab.engine.logs(container_id, follow=True) for _ in range(110)]
    async with asyncio.timeout(60):
        first = await asyncio.gather(*(anext(follower) for follower in followers))
        assert {chunk.payload for batch in first for chunk in batch} == {b"ready\n"}
        async with asyncio.timeout(10):
            found = await lab.engine.find(container_id)
        assert found is not None
        assert found.state == "running"
        for follower in followers:
            await follower.aclose()


async def test_an_engine_that_goes_away_is_unavailable(lab: Lab, tmp_path: Path) -> None:
    container_id = await lab.started(RUNS_ON)
    async with Relay(tmp_path / "relay") as relay, asyncio.timeout(30):
        engine = DockerEngine(relay.host)
        events, logs = engine.events(), engine.logs(container_id, follow=True)
        assert await anext(events) == SUBSCRIBED
        assert (await anext(logs))[0].payload == b"ready\n"
        await relay.cut()
        with pytest.raises(Unavailable):
            while True:
                await anext(events)  # other tests' may have been told of before
        for waiting in (anext(logs), engine.info(), engine.find(container_id)):
            with pytest.raises(Unavailable):
                await waiting
        await engine.close()


async def test_an_engine_that_says_nothing_is_unavailable(
    docker: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Relay(tmp_path / "relay") as relay, asyncio.timeout(30):
        engine = DockerEngine(relay.host)
        await engine.info()
        relay.mute()
        monkeypatch.setattr(engine, "_timeout_s", 0.3)
        with pytest.raises(Unavailable, match="did not answer"):
            await engine.info()
        await engine.close()


async def test_what_only_looks_is_soon_given_up(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again; what has an effect is given more time."""
    ended = await lab.ended(DONE)
    async with Relay(tmp_path / "relay") as relay:
        engine = DockerEngine(relay.host)
        await engine.info()
        relay.mute()
        monkeypatch.setattr(docker_engine, "LOOK_TIMEOUT_S", 0.3)
        for asked in (
            engine.find(ended.id),
            engine.was_started({"a": "b"}),
            engine.was_told_to_stop(ended),
        ):
            with pytest.raises(Unavailable, match=r"did not answer GET /.* in 0\.3 s"):
                await asked
        await engine.close()


async def test_a_create_whose_answer_is_lost_is_found_to_have_been_done(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels of our own and of its image are on the container besides those that were asked for."""
    async with Relay(tmp_path / "relay") as relay:
        engine = DockerEngine(relay.host, call_timeout_s=20)
        await engine.info()
        relay.lose(b"/containers/create")
        monkeypatch.setattr(docker_engine, "LOOK_TIMEOUT_S", 0.5)
        spec = lab.spec(DONE)
        made = await engine.create(spec)
        found = await lab.engine.find(spec.name)
        assert found is not None and found.id == made
        assert dict(found.labels) != dict(spec.labels)
        await engine.close()


async def test_two_processes_make_one_network(lab: Lab, docker: DockerEngine) -> None:
    name, labels = f"t-{lab.key}", {"jobyard-test": lab.key}
    engines = [DockerEngine() for _ in range(4)]
    await asyncio.gather(*(engine.ensure_network(name, labels) for engine in engines))
    # In the race each may see its own first. Whoever looks next takes the oldest, and the others away.
    agreed = {await engine.ensure_network(name, labels) for engine in (docker, *engines)}
    for engine in engines:
        await engine.close()
    left = networks_named(name)
    for network in left:
        remove_network(network)
    assert len(agreed) == 1 and set(left) == agreed


async def test_of_two_networks_of_one_name_all_take_the_oldest(lab: Lab, docker: DockerEngine) -> None:
    made = [make_network(f"t-{lab.key}", unique=False) for _ in range(3)]
    taken = await docker.ensure_network(f"t-{lab.key}", {})
    left = networks_named(f"t-{lab.key}")
    for network in left:
        remove_network(network)
    assert taken == made[0] and left == [taken]


async def test_jobs_of_a_project_reach_each_other(lab: Lab) -> None:
    server = await lab.started(Behaviour(shell("echo ready; echo hello | nc -l -p 8080"), Script()))
    await lab.printed(server, b"ready")
    found = await lab.engine.find(server)
    assert found is not None
    client = await lab.run(
        f"i=0; until nc {found.ip} 8080 </dev/null || [ $i -gt 200 ]; do i=$((i+1)); sleep 0.1; done"
    )
    assert await lab.text(client.id) == "hello\n"


async def test_metadata_addresses_are_blocked_where_that_can_be_done(docker: DockerEngine) -> None:
    answered = await docker.block_metadata()
    rules = metadata_rules(4)
    assert len(rules) == 8 and {"100.100.100.200/32", "168.63.129.16/32"} < {rule[2] for rule in rules}
    for rule in rules:
        check = await asyncio.create_subprocess_exec("iptables", "-w", "-C", *rule)
        assert (await check.wait() == 0) is answered, rule
    assert await docker.block_metadata() is answered
    assert await block_metadata(engine_is_local=True, root=False) is False
    assert await block_metadata(engine_is_local=False) is False


async def test_events_tell_only_of_containers_made_from_a_spec(lab: Lab) -> None:
    """Other tests' may be told of at any moment; one without our label never is."""
    wire = Wire()
    body = create_body(lab.spec(DONE))
    del body["Labels"][LABEL_SPEC]
    try:
        async with asyncio.timeout(30), aclosing(lab.engine.events()) as events:
            assert await anext(events) == SUBSCRIBED
            made = await wire.call("POST", "/containers/create", body=body, timeout_s=30)
            assert made.status == 201
            await lab.engine.start(made.body["Id"])
            ours = await lab.started(DONE)
            told = [(await anext(events)).container_id]
            while told[-1] != ours:
                told.append((await anext(events)).container_id)
            assert made.body["Id"] not in told
    finally:
        await wire.close()
