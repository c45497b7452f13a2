"""A run's image: whether it has to be asked for at its registry, with whose credentials, and what went wrong.

What the engine holds, it holds for all projects. So an image that came from a registry is pulled again before
each run, with the credentials of the run's own project: the registry says whether it may be had, and a tag
that was moved is followed. When nothing has changed that costs one manifest.
"""

from __future__ import annotations

import asyncio
import random

from service.domain.events import Info, Value
from service.domain.images import ImageRef, parse_image
from service.domain.job import Job
from service.domain.notes import as_sentence
from service.domain.registries import DOCKER_HUB, in_shared, is_of_project, registry_host, repository
from service.domain.room import DISK_FULL
from service.errors import Erased, ImageReason, ImageUnavailable, NodeFull
from service.supervisor.effects import FatalForRun, Yard
from service.supervisor.engine.protocol import ImageInfo, RegistryAuth
from service.supervisor.names import RunId
from service.supervisor.waits import LONGEST_RETRY_S, pause_s

#: The server that Docker names when it means its own registry.
_HUB_SERVER = "https://index.docker.io/v1/"

_CODES: dict[ImageReason, str] = {
    "denied": "image-denied",
    "missing": "image-missing",
    "architecture": "image-architecture",
    "unreachable": "registry-unreachable",
    "other": "image-unavailable",
}


async def ready(yard: Yard, job: Job) -> ImageInfo:
    """The job's image, held by the engine and allowed to the job's project.

    Raises `FatalForRun` when it cannot be had, and `Unavailable` from the engine or the ledger. A registry
    that does not answer stops the run although the engine holds the image: nobody can tell whose it is.
    """
    image = _reference(job)
    _refuse_foreign(yard, job, image)
    held = await _held(yard, job, image)
    if held is None:
        await yard.note(job, "pulling-image", f"Image {image} is being pulled.", image=str(image))
        held = await _pulled(yard, job, image)
    elif yard.settings.image_pull == "always" and _from_registry(held, image):
        held = await _pulled(yard, job, image)
    if (held.os, held.architecture) != ("linux", "amd64"):
        message = f"Image {image} is for {held.os}/{held.architecture}; it must be for linux/amd64."
        raise FatalForRun(Info(_CODES["architecture"], message, {"image": str(image)}))
    return held


async def _held(yard: Yard, job: Job, image: ImageRef) -> ImageInfo | None:
    try:
        return await yard.engine.image(job.spec.image)
    except ImageUnavailable as error:  # a reference that this engine has no way to read
        raise _unavailable(job, image, None, error, 1) from error


def digest(held: ImageInfo, job: Job) -> str | None:
    """The digest of a run's image in the registry that its reference names; None if it came from none."""
    image = _reference(job)
    named = [each.digest for each in held.digests if _names(each.name, image)]
    if image.digest in named:
        return image.digest
    return named[0] if named else None


async def credentials(yard: Yard, job: Job) -> RegistryAuth | None:
    """What the job's project may show to the registry of its image: to exactly that host and port.

    The operator's own for the project's part of the shared registry; else those that the project attached.
    """
    image = _reference(job)
    settings, host = yard.settings, registry_host(image)
    server = _HUB_SERVER if host == DOCKER_HUB else host
    if settings.shared is not None and in_shared(image, settings.shared.host):
        if not is_of_project(image, job.project) or not settings.shared_registry_username:
            return None
        return RegistryAuth(server, settings.shared_registry_username, settings.shared_registry_password)
    project = await yard.ledger.project(job.project)
    registry = project.registry_of(host) if project else None
    if registry is None:
        return None
    try:
        password = await yard.ledger.open_secret(registry.password)
    except Erased as error:
        message = f"The password of registry {host} was erased: set it again (jobyard registry update)."
        raise FatalForRun(Info(_CODES["denied"], message, {"image": str(image)})) from error
    return RegistryAuth(server, registry.username, password)


def _reference(job: Job) -> ImageRef:
    image = parse_image(job.spec.image)
    if image is None:  # an older version took ids of images
        message = f"{job.spec.image} is not the name of an image."
        raise FatalForRun(Info(_CODES["missing"], message, {"image": job.spec.image}))
    return image


def _refuse_foreign(yard: Yard, job: Job, image: ImageRef) -> None:
    """The registry may have become the shared one after the job was submitted."""
    shared = yard.settings.shared
    if shared is not None and in_shared(image, shared.host) and not is_of_project(image, job.project):
        message = f"Of the shared registry, this project may use {shared.host}/{job.project}/... only."
        raise FatalForRun(Info(_CODES["denied"], message, {"image": str(image)}))


def _from_registry(held: ImageInfo, image: ImageRef) -> bool:
    """Whether the engine holds it because it was pulled by this name, and not loaded, imported or built."""
    return any(_names(each.name, image) for each in held.digests)


def _names(name: str, image: ImageRef) -> bool:
    found = parse_image(name)
    return found is not None and repository(found) == repository(image)


async def _pulled(yard: Yard, job: Job, image: ImageRef) -> ImageInfo:
    run = RunId(job.id, job.run)
    settings = yard.settings
    auth = await credentials(yard, job)
    shown = auth.username if auth else None
    for attempt in range(1, settings.pull_attempts + 1):
        try:
            async with yard.effect("pull-image", run, image=str(image), user=shown, attempt=attempt) as facts:
                held = await yard.engine.pull(job.spec.image, auth=auth, stall_s=settings.pull_stall_s)
                facts["digest"] = digest(held, job)
                return held
        except NodeFull as error:
            if attempt == settings.pull_attempts:
                raise _no_space(image) from error
            await yard.note_full(job)
            await asyncio.sleep(pause_s(settings.retry_s, attempt + 1, LONGEST_RETRY_S))
        except ImageUnavailable as error:
            if not error.passing or attempt == settings.pull_attempts:
                raise _unavailable(job, image, auth, error, attempt) from error
            host = registry_host(image)
            message = f"Registry {host} does not answer, or asks to slow down; image {image} is tried again."
            await yard.note(job, "registry-not-answering", message, image=str(image), registry=host)
            # Many jobs that wait for one registry must not come back at the same moment.
            longest_s = pause_s(settings.retry_s, attempt + 1, LONGEST_RETRY_S)
            await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter is no secret)
    raise AssertionError("unreachable: the last attempt answers or raises")


def _no_space(image: ImageRef) -> FatalForRun:
    """Not waited for for ever: the image may be larger than the disk, and would fill it each time."""
    message = f"Image {image} does not fit on the node's disk, of which too little is free."
    return FatalForRun(Info(DISK_FULL, message, {"image": str(image)}), ours=True)


def _unavailable(
    job: Job, image: ImageRef, auth: RegistryAuth | None, error: ImageUnavailable, attempts: int
) -> FatalForRun:
    """Why the run cannot have its image, and what its user can do about it."""
    host = registry_host(image)
    why = error.message.removeprefix(f"{image} cannot be pulled: ")  # which is said in any case
    match error.reason:
        case "denied" if auth is None:
            message = (
                f"Image {image} cannot be pulled: {host} denies access without credentials, or there is no "
                f"such image. Attach the registry to project {job.project} (jobyard registry add)."
            )
        case "denied":
            user = repr(auth.username) if auth else ""
            message = (
                f"Image {image} cannot be pulled: {host} denies it to user {user}. "
                "The password is wrong or no longer valid, or the user may not pull this image."
            )
        case "missing":
            message = f"Image {image} cannot be pulled: {host} has no such image or tag."
        case "architecture":
            message = f"Image {image} cannot be used: {why}; it must be for linux/amd64"
        case "unreachable" if why.endswith("cannot be reached"):
            message = f"Image {image} cannot be pulled: registry {host} cannot be reached."
        case "unreachable":
            message = f"Image {image} cannot be pulled from registry {host}: {why}"
        case _:
            message = f"Image {image} cannot be pulled: {why}"
    arguments: dict[str, Value] = {"image": str(image), "registry": host, "attempts": attempts}
    return FatalForRun(Info(_CODES[error.reason], as_sentence(message), arguments))
