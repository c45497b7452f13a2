"""A run's container: its specification, finding it again, starting it, putting it away."""

from __future__ import annotations

from service.domain.events import Info
from service.domain.job import Job
from service.errors import (
    CommandUnusable,
    GpuDriverMissing,
    ImageUnavailable,
    MountRefused,
    NameTaken,
    NoSuchContainer,
    Unavailable,
)
from service.supervisor import volumes
from service.supervisor.effects import FatalForRun, Yard
from service.supervisor.engine.create import spec_hash
from service.supervisor.engine.protocol import Container, ContainerSpec
from service.supervisor.names import EPOCH, LEDGER, PROJECT, RunId, container_name, network_name, run_labels

_ENDED = ("exited", "dead")
_NAMES_TRIED = 5


def has_ended(found: Container) -> bool:
    return found.state in _ENDED


def lost(run: RunId) -> FatalForRun:
    """An outcome that nobody can tell is ours, and is credited."""
    info = Info("container-lost", f"The container of run {run.run} is gone; how it ended is not known.")
    return FatalForRun(info, ours=True)


async def find(yard: Yard, run: RunId) -> Container | None:
    """The run's container, by label, whatever its name. Inspected, because a list may be old."""
    for summary in await yard.engine.list(run_labels(yard.ledger_id, run)):
        found = await yard.engine.find(summary.id)
        if found is not None and found.state != "removing":
            return found
    return None


async def must_find(yard: Yard, run: RunId, container_id: str | None = None) -> Container:
    """The run's container, asked for by its id first when that is known."""
    found = await yard.engine.find(container_id) if container_id else None
    if found is None or found.state == "removing":
        found = await find(yard, run)
    if found is None:
        raise lost(run)
    return found


async def specification(yard: Yard, job: Job, name: str) -> ContainerSpec:
    """What the run's container is: the same for the same run, however often it is asked for."""
    resources = job.spec.resources
    run = RunId(job.id, job.run)
    env = [(var.name, await yard.ledger.open_secret(var.value)) for var in job.spec.env]
    return ContainerSpec(
        name=name,
        image=job.spec.image,
        command=job.spec.command or None,
        env=tuple(env),
        labels=run_labels(yard.ledger_id, run) | {PROJECT: job.project, EPOCH: str(yard.epoch)},
        mounts=volumes.mounts(yard, job),
        nano_cpus=resources.cpus * 1_000_000_000,
        memory_bytes=resources.memory,
        gpus=job.gpus,
        network=network_name(yard.ledger_id, job.project),
        stop_grace_s=yard.settings.stop_grace_s,
        pids_limit=yard.settings.pids_limit,
        shm_bytes=resources.memory // 2,
        storage_bytes=resources.ephemeral_storage,
    )


async def create_and_start(yard: Yard, job: Job) -> Container:
    """Create the container unless it is there, start it unless it runs, and inspect it.

    Raises `FatalForRun` for what cannot be mended by trying again, and `EngineError` for a refusal that
    may pass: a firewall's chain that another program had just removed, for one.
    """
    run = RunId(job.id, job.run)
    try:
        found = await find(yard, run) or await _created(yard, job, run)
        if found.state == "created":
            await yard.still_ours()
            async with yard.effect("start-container", run, container=found.id[:12]):
                await yard.engine.start(found.id)
            found = await must_find(yard, run)
    except CommandUnusable as error:
        raise FatalForRun(
            Info("command-unusable", f"The container cannot be started: {error.message}")
        ) from error
    except MountRefused as error:
        message = f"The container cannot be started: {error.message}. Mount the volume elsewhere."
        raise FatalForRun(Info("mount-refused", message)) from error
    except ImageUnavailable as error:
        raise Unavailable(f"the image went away while the container was made: {error.message}") from error
    except GpuDriverMissing as error:
        message = f"The node's engine cannot hand out GPUs: {error.message}"
        raise FatalForRun(Info("no-gpu-driver", message), ours=True) from error
    except NoSuchContainer as error:
        raise Unavailable(error.message) from error
    return found


async def _created(yard: Yard, job: Job, run: RunId) -> Container:
    labels = {LEDGER: str(yard.ledger_id), PROJECT: job.project}
    await yard.engine.ensure_network(network_name(yard.ledger_id, job.project), labels)
    for attempt in range(1, _NAMES_TRIED + 1):
        spec = await specification(yard, job, container_name(run, attempt))
        await yard.still_ours()
        try:
            async with yard.effect("create-container", run, container=spec.name, gpus=list(job.gpus)):
                await yard.engine.create(spec)
        except NameTaken:
            # Us, before a crash; or the engine remembers a name without a container.
            taken = await yard.engine.find(spec.name)
            if taken is None:
                continue
            if taken.spec_hash != spec_hash(spec):
                message = f"A container named {spec.name} exists and is not what this run asked for."
                raise FatalForRun(Info("name-taken", message), ours=True) from None
        return await must_find(yard, run)
    raise FatalForRun(Info("name-taken", "The engine holds every name this run could have."), ours=True)


async def put_away(yard: Yard, run: RunId, found: Container) -> None:
    """Keep the whole log, then remove the container. Only after its exit has been recorded."""
    await yard.keeper.finish(run.job, run.run, found.id)
    await yard.still_ours()
    async with yard.effect("remove-container", run, container=found.id[:12]):
        await yard.engine.remove(found.id, force=True)
