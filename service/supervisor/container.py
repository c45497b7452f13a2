"""A run's container: its specification, finding it again, starting it, putting it away.

The engine starts whatever it is asked to, also what has ended, and cannot be told "only if I still have the
lease". So a start that is still on its way, from a supervisor that was stopped in front of it or over a link
that was cut, could start a container once more that others have started, and that has ended. It cannot find
it: a container that somebody else may still start, or that was asked to start without an answer, is never
started (again) but put away and made anew, under another id. Whether it was begun in the last moment, and was
over before it was put away, the engine's last events say (`fences`); then nobody knows how it ended.
"""

from __future__ import annotations

import asyncio

from service.domain.events import Info
from service.domain.job import CONTAINER_LOST, Job
from service.errors import (
    CommandUnusable,
    EngineError,
    Erased,
    GpuDriverMissing,
    ImageUnavailable,
    MountRefused,
    NameTaken,
    NetworkBroken,
    NoSuchContainer,
    Unavailable,
)
from service.supervisor import fences, volumes
from service.supervisor.effects import FatalForRun, Yard
from service.supervisor.engine.create import spec_hash
from service.supervisor.engine.protocol import Container, ContainerSpec
from service.supervisor.names import EPOCH, LEDGER, PROJECT, RunId, container_name, network_name, run_labels

_HALF_REMOVED = "dead"
_ENDED = ("exited", _HALF_REMOVED)
_NAMES_TRIED = 5
_LOOKS_FOR_NAME = 5


def has_ended(found: Container) -> bool:
    return found.state in _ENDED


def is_half_removed(found: Container) -> bool:
    """Its removal failed, or was cut off by its engine's end: it never runs again, and has no log."""
    return found.state == _HALF_REMOVED


def lost(run: RunId) -> FatalForRun:
    """An outcome that nobody can tell is ours, and is credited."""
    info = Info(CONTAINER_LOST, f"The container of run {run.run} is gone; how it ended is not known.")
    return FatalForRun(info, ours=True)


async def lost_here(yard: Yard, run: RunId) -> FatalForRun:
    """`lost`, once the engine has said that it is the same: its events may not have broken off (yet). Raises
    `Unavailable` where it is not."""
    await yard.same.ask()
    return lost(run)


def is_lost(fatal: FatalForRun) -> bool:
    """Whether it is a run whose process has run, or may have, and nobody knows how it ended."""
    return fatal.info.code == CONTAINER_LOST


async def find(yard: Yard, run: RunId, container_id: str | None = None) -> Container | None:
    """The run's container: by its id, where that is known and it is there; else by label, whatever its name.

    Inspected, because a list may be old. One that was started is it, whatever others there are. That there is
    none is believed of the same engine alone: raises `Unavailable` where it may be another.
    """
    known = await yard.engine.find(container_id) if container_id else None
    if known is not None and known.state != "removing":
        return known
    unstarted: Container | None = None
    for summary in await yard.engine.list(run_labels(yard.ledger_id, run)):
        found = await yard.engine.find(summary.id)
        if found is None or found.state == "removing":
            continue
        if found.started_at is not None:
            return found
        unstarted = unstarted or found
    if unstarted is None:
        await yard.same.sure()
    return unstarted


async def must_find(yard: Yard, run: RunId, container_id: str | None = None) -> Container:
    """As `find`. Raises `FatalForRun` where there is none."""
    found = await find(yard, run, container_id)
    if found is None:
        raise await lost_here(yard, run)
    return found


async def specification(yard: Yard, job: Job, name: str) -> ContainerSpec:
    """What the run's container is: the same for the same run, however often it is asked for."""
    resources = job.spec.resources
    run = RunId(job.id, job.run)
    try:
        env = [(var.name, await yard.ledger.open_secret(var.value)) for var in job.spec.env]
    except Erased as error:
        message = "The values of the job's environment were erased: submit a new job."
        raise FatalForRun(Info("secrets-erased", message)) from error
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


async def create_and_start(yard: Yard, job: Job) -> tuple[Container, bool]:
    """Create the container unless it is there, start it unless it runs, and inspect it. And whether it was
    begun right here: not if others had begun it, long before maybe.

    Raises `FatalForRun` for what cannot be mended by trying again, and `EngineError` for a refusal that
    may pass: a firewall's chain that another program had just removed, for one.
    """
    run, by_us = RunId(job.id, job.run), False
    try:
        found = await find(yard, run)
        if found is not None and found.started_at is None:
            found = await never_started(yard, run, found)
        if found is None or found.started_at is None:
            container_id = found.id if found else await _created(yard, job, run)
            await yard.still_ours()
            await _start(yard, job, run, container_id)
            by_us = True
            found = await must_find(yard, run, container_id)
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
    return found, by_us


def _may_be_started_by_others(yard: Yard, found: Container) -> bool:
    """Whoever made it may start it still, unless that was this epoch, or the one before and its holder is
    known to be gone; an older one may have been stopped all the while. Or we: a start whose answer never came
    may still come to the engine."""
    fenced = {str(yard.epoch)} if yard.lease.unfenced else {str(yard.epoch), str(yard.epoch - 1)}
    return found.labels.get(EPOCH) not in fenced or found.id in yard.asked_to_start


async def never_started(yard: Yard, run: RunId, found: Container) -> Container | None:
    """What was made and not started, as only we can start it. What others may still start is put away, so
    that a start on its way finds nothing: then None; or it is there and started, if that start was quicker.

    One whose removal was cut off by its engine's end is `dead`, and nobody can start it: it is put away too.
    """
    if not is_half_removed(found) and not _may_be_started_by_others(yard, found):
        return found
    await yard.still_ours()
    last = await yard.engine.find(found.id)
    if last is not None and last.started_at is not None:
        return last  # that start came while we made sure that the engine is ours
    yard.may_have_run.add(run)
    fences.mark(yard, run, found.id)
    try:
        async with yard.effect("remove-container", run, container=found.id[:12], why="not ours to start"):
            await yard.engine.remove(found.id)
        yard.asked_to_start.discard(found.id)  # a start that comes still finds nothing
    except EngineError:
        started = await yard.engine.find(found.id)
        if started is None or started.started_at is None:
            raise
        return started
    return None


async def begun(yard: Yard, job: Job, run: RunId) -> Container | None:
    """The run's container, if it was begun. None: it never was, and nobody can begin it any more but we.

    Raises `FatalForRun` where it was, or may have been, and is gone.
    """
    found = await find(yard, run, job.container_id)
    if found is not None and found.started_at is None:
        found = await never_started(yard, run, found)
    if found is not None and found.started_at is not None:
        return found
    if job.started_at is not None or (found is None and await fences.may_have_begun(yard, run)):
        raise await lost_here(yard, run)
    return None


async def _start(yard: Yard, job: Job, run: RunId, container_id: str) -> None:
    """Start it. Where its network is broken, both are put away to be made anew, as nothing ran in either.

    Raises `Unavailable` then, however often: it is not the job's fault, and passes.
    """
    yard.asked_to_start.add(container_id)
    try:
        async with yard.effect("start-container", run, container=container_id[:12]):
            await yard.engine.start(container_id)
        yard.asked_to_start.discard(container_id)  # it was answered: nothing is on its way any more
    except EngineError as error:
        yard.asked_to_start.discard(container_id)  # a refusal is an answer too
        if not isinstance(error, NetworkBroken):
            raise
        await yard.still_ours()
        async with yard.effect("remove-container", run, container=container_id[:12], why=error.code):
            await yard.engine.remove(container_id)
        if error.network and not await _network_dropped(yard, job, run, error.network):
            message = "The project's network is broken, and waits for the jobs that are in it to end."
            await yard.note(job, error.code, message)
        raise Unavailable(f"the project's network is made anew: {error.message}") from error


async def _network_dropped(yard: Yard, job: Job, run: RunId, broken: str) -> bool:
    name, labels = _network(yard, job)
    async with yard.effect("drop-network", run, network=broken) as facts:
        facts["dropped"] = await yard.engine.drop_network(name, labels, broken=broken)
        return bool(facts["dropped"])


def _network(yard: Yard, job: Job) -> tuple[str, dict[str, str]]:
    """Name and labels of the network of the job's project."""
    return network_name(yard.ledger_id, job.project), {LEDGER: str(yard.ledger_id), PROJECT: job.project}


async def _created(yard: Yard, job: Job, run: RunId) -> str:
    """Its id. The run had none a moment ago, and by its name it can be made once only.

    Raises `Unavailable` when somebody has made it meanwhile: the next look finds it, and whose it is.
    """
    if await fences.may_have_begun(yard, run):
        raise await lost_here(yard, run)  # it was over before it was put away, or is still on its way to that
    await yard.engine.ensure_network(*_network(yard, job))
    for attempt in range(1, _NAMES_TRIED + 1):
        spec = await specification(yard, job, container_name(yard.ledger_id, run, attempt))
        await yard.same.sure()
        await yard.still_ours()
        try:
            about = {"container": spec.name, "gpus": list(job.gpus)}
            async with yard.effect("create-container", run, **about) as facts:
                return await yard.engine.create(
                    spec, on_warnings=lambda said: facts.update(warnings=list(said))
                )
        except NameTaken:
            # Us, by a question whose answer was lost; or the engine remembers a name without a container.
            taken = await _holder_of(yard, spec.name)
            if taken is None:
                continue
            if taken.spec_hash != spec_hash(spec):
                message = f"A container named {spec.name} exists and is not what this run asked for."
                raise FatalForRun(Info("name-taken", message), ours=True) from None
            raise Unavailable("the run's container was made meanwhile, and is looked for again") from None
    raise FatalForRun(Info("name-taken", "The engine holds every name this run could have."), ours=True)


async def _holder_of(yard: Yard, name: str) -> Container | None:
    """The container of a name that is taken. One that is being made has its name before it is there."""
    for _ in range(_LOOKS_FOR_NAME):
        found = await yard.engine.find(name)
        if found is not None:
            return found
        await asyncio.sleep(yard.settings.retry_s)
    return None


async def put_away(yard: Yard, run: RunId, found: Container) -> None:
    """Keep the whole log, then remove the container. Only after its exit has been recorded."""
    await yard.keeper.finish(run.job, run.run, found.id)
    await yard.still_ours()
    async with yard.effect("remove-container", run, container=found.id[:12]):
        await yard.engine.remove(found.id, force=True)
    yard.asked_to_start.discard(found.id)
