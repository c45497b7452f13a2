"""The story of a job as OVHcloud's own client tells it, and every operation of its that we have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest
from ovhai import models as m

from service.supervisor.data import Source, Store, StoreAccess
from tests.acceptance.running import Service
from tests.acceptance.sdk import Client, Table, opened, same
from tests.data.sync import fill, held
from tests.images import BUSYBOX
from tests.support import summary
from tests.support.registry import PrivateRegistry, the_registry
from tests.support.sshd import key_pair
from tests.support.waiting import until

STORE = "local"
PREFIX = "sdk/"

#: Operations of the client for AI Training, by module.
OPERATIONS = (
    *(f"job.job_{name}" for name in (
        "new", "get", "get_all", "edit", "edit_label", "delete", "kill", "start", "log", "exec",
        "data_sync", "cli_command",
    )),
    "me.me",
    *(f"token.token_{name}" for name in ("new", "get", "get_all", "renew", "delete")),
    *(f"registry.registry_{name}" for name in ("new", "get", "get_all", "update", "delete")),
    *(f"volume.{name}" for name in (
        "post_v1_volume", "get_v1_volume", "get_v1_volume_id", "delete_v1_volume_id",
    )),
    *(f"capabilities.get_v1_capabilities_{name}" for name in (
        "flavor", "flavor_id", "job_image", "preset", "preset_id", "quota",
    )),
)  # fmt: skip


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """Shown at the end of the tests' output."""
    made = Table()
    yield made
    summary.add(request.config, "OVHcloud's own client, operation by operation", made.text())


@pytest.fixture(params=["sync", "async"])
async def ask(request: pytest.FixtureRequest, service: Service, table: Table) -> AsyncIterator[Client]:
    client = opened(service.up["url"], service.up["token"])
    yield Client(client, request.param, table)
    if request.param == "async":
        await client.get_async_httpx_client().aclose()
    else:
        client.get_httpx_client().close()


@pytest.fixture
async def bucket(service: Service) -> AsyncIterator[tuple[str, Store]]:
    s3 = service.up["s3"]
    name = f"sdk-{uuid4().hex[:12]}"
    access = StoreAccess(s3["endpoint"], s3.get("region", ""), s3["accessKey"], s3["secretKey"])
    async with Store.open(access) as store:
        await store.ensure_container(name)
        yield name, store


async def reached(ask: Client, job: str, *states: str) -> Any:
    """The job, once it is in one of the states."""
    found: list[Any] = []

    async def is_there() -> bool:
        found[:] = [await ask("job.job_get", job)]
        return found[0].status.state in states

    await until(is_there, 60, what=f"{job} {states}")
    return found[0]


@pytest.fixture
async def private(ask: Client) -> PrivateRegistry:
    """A real registry with a password, attached to nothing yet."""
    for known in (await ask("registry.registry_get_all")).items:
        await ask("registry.registry_delete", known.id, expect=204)
    return the_registry()


async def test_data_stores_in_the_clients_types(service: Service) -> None:
    """The client has models of them, and no operation."""
    pair = key_pair()
    by_key = m.GitCredentials(ssh_keypair=m.SSHKeyPair(private_key=pair.private, public_key=pair.public))
    by_key["hostKeys"] = [key_pair().public]
    by_password = m.GitCredentials(basic_auth=m.HTTPSBasicAuth(username="ada", password="s3cret"))
    client = opened(service.up["url"], service.up["token"])
    with client.get_httpx_client() as http:
        for endpoint, git in (("ssh://git@hub.invalid/team", by_key), ("https://hub.invalid", by_password)):
            asked = m.DataStore(
                alias="sdk",
                type=m.StoreType.GIT,
                owner=m.StoreOwner.CUSTOMER,
                endpoint=endpoint,
                credentials=m.Credentials(git=git),
            )
            answer = http.post("/v1/datastore?check=false", json=asked.to_dict())
            assert answer.status_code == 200, answer.text
            made = m.DataStore.from_dict(answer.json())
            same(made, m.DataStore.from_dict)
            assert (made.alias, made.type, made.endpoint) == ("sdk", m.StoreType.GIT, endpoint)
            assert m.DataStore.from_dict(http.get("/v1/datastore/sdk").json()) == made
            assert "s3cret" not in answer.text and pair.private.splitlines()[2] not in answer.text
            assert http.delete("/v1/datastore/sdk").status_code == 204


def credentials(of: PrivateRegistry, password: str | None = None) -> m.Registry:
    return m.Registry(url=of.url, username=of.user, password=password or of.password)


def story(image: str, container: str) -> m.JobSpec:
    """A job that reads its input, waits to be told to stop, and takes both spellings of a data store."""
    source = m.DataStoreVolumeSource(STORE, container, prefix=PREFIX)
    older = m.PrivateSwiftVolumeSource(container, STORE, prefix="out/")
    return m.JobSpec(
        image=image,
        name="story",
        command=[
            "sh",
            "-c",
            "cat /in/greeting; echo; while [ ! -e /out/stop ]; do sleep 0.1; done; echo bye",
        ],
        env_vars=[m.Env(name="LANG", value="C")],
        resources=m.Resources(cpu=1),
        labels=m.JobSpecLabelsType0.from_dict({"stage": "test"}),
        timeout=3600,
        volumes=[
            m.Volume(mount_path="/in", permission="RO", data_store=source),
            m.Volume(mount_path="/out", permission="RW", private_swift=older),
        ],
    )


async def test_the_story(
    ask: Client, bucket: tuple[str, Store], private: PrivateRegistry, service: Service
) -> None:
    """Attach a registry, make a token, submit with volumes and labels, follow, exec, edit, push, kill, start,
    delete."""
    container, store = bucket
    await fill(store, Source(container), {f"{PREFIX}greeting": b"hello"})
    await private.push("team/story", "1")
    image = f"{private.address}/team/story:1"
    registry = await ask("registry.registry_new", body=credentials(private))
    same(registry, m.Registry.from_dict)
    spec = m.TokenSpec(name="story", role="ai_training_operator", label_selector="team=a")
    token = await ask("token.token_new", body=spec)
    mine = Client(opened(service.up["url"], token.status.value), ask.way, ask.table)

    command = await ask("job.job_cli_command", body=story(image, container))
    assert command.command.startswith("jobyard job run")
    job = await mine("job.job_new", body=story(image, container))
    assert job.spec.labels["team"] == "a"
    running = await reached(mine, job.id, "RUNNING")
    same(running, m.Job.from_dict)
    await _looked_into(mine, job.id)
    await _changed(mine, running)
    await _pushed(mine, job.id, Source(container, "out/"), store)

    await mine("job.job_kill", job.id, expect=204)
    killed = await reached(mine, job.id, "INTERRUPTED")
    same(killed, m.Job.from_dict)
    assert killed.status.info.code == "interrupted"
    await mine("job.job_start", job.id, expect=204)
    await reached(mine, job.id, "RUNNING")
    await mine("job.job_delete", job.id, expect=400)
    await mine("job.job_delete", job.id, force=True, expect=204)

    async def deleted() -> bool:
        listed = await mine("job.job_get_all", label_selector="stage=prod,team in (a)")
        return job.id not in [each.id for each in listed.items]

    await until(deleted, 60)
    await mine("job.job_get", job.id, expect=404)
    await ask("token.token_delete", token.id, expect=204)
    await mine("job.job_get_all", expect=401)
    await ask("registry.registry_delete", registry.id, expect=204)


async def _looked_into(mine: Client, job: str) -> None:
    """The log as it comes, and a command in the container."""
    await mine("job.job_exec", job, command=["true"])
    executed = await mine.raw("job.job_exec", job, command=["sh", "-c", "cat /in/greeting; exit 4"])
    assert (executed.content, executed.headers["X-Exit-Code"]) == (b"hello", "4")

    async def printed() -> bool:
        return (await mine.raw("job.job_log", job, tail=5)).content == b"hello\n"

    await until(printed)
    await mine("job.job_log", job)


async def _changed(mine: Client, running: Any) -> None:
    update = m.JobSpecUpdate(timeout=7200, timeout_auto_restart=True)
    await mine("job.job_edit", running.id, body=update, expect=204)
    edited = await mine("job.job_get", running.id)
    assert (edited.spec.timeout, edited.spec.timeout_auto_restart) == (7200, True)
    assert (edited.status.timeout_at - running.status.timeout_at).total_seconds() == 3600
    update = m.JobSpecUpdate(timeout_auto_restart=False)
    await mine("job.job_edit", running.id, body=update, expect=204)
    await mine("job.job_edit_label", running.id, body=m.LabelUpdate("stage", "prod"), expect=204)
    await mine("job.job_edit_label", running.id, body=m.LabelUpdate("team", "b"), expect=400)
    await mine("job.job_edit_label", running.id, body=m.LabelUpdate("ovh/id", "b"), expect=400)


async def _pushed(mine: Client, job: str, to: Source, store: Store) -> None:
    await mine.raw("job.job_exec", job, command=["sh", "-c", "echo 1 > /out/checkpoint"])
    push = m.DataSyncSpec(direction=m.DataSyncSpecDirection.PUSH)
    sync = await mine("job.job_data_sync", job, body=push)
    same(sync, m.DataSync.from_dict)

    async def done() -> bool:
        found = await mine("job.job_get", job)
        return any(each.id == sync.id and each.status.state == "DONE" for each in found.status.data_sync)

    await until(done)
    assert (await held(store, to))["out/checkpoint"] == b"1\n"
    found = await mine("job.job_get", job)
    (ended,) = [each for each in found.status.data_sync if each.id == sync.id]
    for progress in ended.status.progress:
        assert progress.data_sync_id == sync.id
        assert progress.volume_status in found.status.volumes
        assert progress.job_volume in found.spec.volumes
        assert progress.job_volume.mount_path == progress.volume_status.mount_path


async def test_lists_with_every_filter(ask: Client) -> None:
    label = f"n{uuid4().hex[:8]}"
    resources = m.Resources(cpu=1)
    jobs = [
        await ask(
            "job.job_new",
            body=m.JobSpec(image=BUSYBOX, command=["true"], name=f"{label}-{n}", resources=resources,
                           labels=m.JobSpecLabelsType0.from_dict({"list": label})),
        )
        for n in range(3)
    ]  # fmt: skip
    for job in jobs:
        await reached(ask, job.id, "DONE")
    every: dict[str, Any] = {
        "page": 1, "size": 2, "order": m.Order.ASC, "sort": "spec.name", "updated_after": 0,
        "updated_before": 4_000_000_000, "status_state": ["DONE", "FAILED"],
        "label_selector": f"list={label}",
    }  # fmt: skip
    first = await ask("job.job_get_all", **every)
    second = await ask("job.job_get_all", **every | {"page": 2})
    assert [job.id for job in [*first.items, *second.items]] == [job.id for job in jobs]
    assert (first.metadata.total, first.metadata.page_count, first.metadata.current_page) == (3, 2, 1)
    same(first, m.JobList.from_dict)
    nobody = await ask("job.job_get_all", user_name="nobody", label_selector=f"list={label}")
    assert nobody.items == []
    for job in jobs:
        await ask("job.job_delete", job.id, expect=204)


async def test_volumes_of_the_project(ask: Client, bucket: tuple[str, Store]) -> None:
    name, _ = bucket
    before = (await ask("volume.get_v1_volume")).metadata.total
    archive = m.DataStoreVolumeSource(alias=STORE, container=name, archive="a.tar")
    made = await ask("volume.post_v1_volume", body=m.CreateVolume(data_store=archive))
    same(made, m.UserVolume.from_dict)
    assert (made.cache, made.data_store.archive) == (True, "a.tar")
    shared = await ask("volume.post_v1_volume", body=m.CreateVolume(standalone=m.StandaloneVolumeSource()))
    cached = m.CreateVolume(cache=True, standalone=m.StandaloneVolumeSource())
    await ask("volume.post_v1_volume", body=cached, expect=400)
    found = await ask(
        "volume.get_v1_volume", page=1, size=10, order=m.Order.ASC, sort="createdAt", read_lock=True
    )
    same(found, m.VolumeList.from_dict)
    assert found.metadata.total == before + 2
    same(await ask("volume.get_v1_volume_id", made.id), m.UserVolume.from_dict)

    volume = m.Volume(mount_path="/data", permission="RW")
    volume["userVolumeId"] = shared.id
    asked = m.JobSpec(image=BUSYBOX, command=["true"], resources=m.Resources(cpu=1), volumes=[volume])
    job = await ask("job.job_new", body=asked)
    assert job.status.volumes[0].user_volume_id == shared.id
    assert (await reached(ask, job.id, "DONE", "FAILED", "ERROR")).status.state == "DONE"
    await ask("job.job_delete", job.id, expect=204)
    for each in (made, shared):
        await ask("volume.delete_v1_volume_id", each.id, expect=204)
        await ask("volume.get_v1_volume_id", each.id, expect=404)


async def test_tokens_registries_and_capabilities(ask: Client, private: PrivateRegistry) -> None:
    me = await ask("me.me")
    same(me, m.Me.from_dict)
    assert (me.role, me.token_kind) == (m.Role.ADMINISTRATOR, m.MeTokenKind.APP)
    token = await ask("token.token_new", body=m.TokenSpec(name="t", role="ai_training_read"))
    same(token, m.Token.from_dict)
    renewed = await ask("token.token_renew", token.id)
    assert renewed.status.version == 2
    assert renewed.status.value != token.status.value
    same(await ask("token.token_get", token.id), m.Token.from_dict)
    same(await ask("token.token_get_all", page=1, size=50), m.TokenList.from_dict)
    await ask("token.token_delete", token.id, expect=204)

    await ask("registry.registry_new", body=credentials(private, "wrong"), expect=400)
    registry = await ask("registry.registry_new", body=credentials(private))
    update = m.RegistryUpdate(password=private.password)
    await ask("registry.registry_update", registry.id, body=update, expect=204)
    read = await ask("registry.registry_get", registry.id)
    same(read, m.Registry.from_dict)
    assert not read.password
    same(await ask("registry.registry_get_all", page=1, size=10), m.RegistryList.from_dict)
    await ask("registry.registry_delete", registry.id, expect=204)
    await ask("registry.registry_get", registry.id, expect=404)

    flavors = await ask("capabilities.get_v1_capabilities_flavor")
    assert "ai1-1-cpu" in [flavor.id for flavor in flavors]
    for flavor in flavors:
        same(flavor, m.Flavor.from_dict)
        same(await ask("capabilities.get_v1_capabilities_flavor_id", flavor.id), m.Flavor.from_dict)
    (quota,) = await ask("capabilities.get_v1_capabilities_quota")
    same(quota, m.ProjectQuotas.from_dict)
    for image in await ask("capabilities.get_v1_capabilities_job_image"):
        same(image, m.JobImage.from_dict)
    presets = await ask("capabilities.get_v1_capabilities_preset")
    assert [preset.id for preset in presets] == ["hello"]
    for preset in presets:
        same(preset, m.Preset.from_dict)
        same(await ask("capabilities.get_v1_capabilities_preset_id", preset.id), m.Preset.from_dict)


async def test_volumes_made_before_their_jobs(ask: Client) -> None:
    source = m.DataStoreVolumeSource(STORE, "sdk-volume", prefix=PREFIX)
    for body in (m.CreateVolume(data_store=source), m.CreateVolume(standalone=m.StandaloneVolumeSource())):
        volume = await ask("volume.post_v1_volume", body=body)
        same(volume, m.UserVolume.from_dict)
        same(await ask("volume.get_v1_volume_id", volume.id), m.UserVolume.from_dict)
        listed = await ask("volume.get_v1_volume", page=1, size=50, order=m.Order.DESC)
        same(listed, m.VolumeList.from_dict)
        assert volume.id in [each.id for each in listed.items]
        await ask("volume.delete_v1_volume_id", volume.id, expect=204)
        await ask("volume.get_v1_volume_id", volume.id, expect=404)


def test_every_operation_passed_both_ways(table: Table) -> None:
    """The last of this file: what the others called, and that none was left out."""
    missing = {path.rpartition(".")[2] for path in OPERATIONS} - set(table.rows)
    assert not missing
    assert all(ways == {"sync": "pass", "async": "pass"} for ways in table.rows.values())
