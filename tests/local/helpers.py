"""What the tests of the local parts share: a state directory, a container image, a run that gets killed."""

from __future__ import annotations

import asyncio
import io
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aioboto3

from service.config.stores import S3Access
from service.local import engine_api
from service.local.docker import DockerEngine

ROOT = Path(__file__).parents[2]

_HOLD = """
import asyncio, sys
from pathlib import Path
from service.local.parts import local_parts

async def main():
    async with local_parts(
        Path(sys.argv[1]), database_url=None, docker_host=None, store=True,
        say=lambda text: print("said:", text, flush=True), own_engine=True,
    ):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def another_run(state: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another Jobyard process whose parts are ready in `state`; the test ends it as it likes."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLD, str(state), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(120):  # engines of one machine start one after the other
            while line := await child.stdout.readline():
                if line.strip() == b"ready":
                    break
            else:
                raise AssertionError("the other run ended before its parts were ready")
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def import_busybox(host: str) -> None:
    """Gives the engine an image `busybox` that is one static program, without any registry."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add("/bin/busybox", "bin/busybox", filter=_as_program)
        for name in ("sh", "sleep", "echo"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    query = {"fromSrc": "-", "repo": "busybox", "tag": "test"}
    async with (
        engine_api.session(host, timeout_s=60) as http,
        http.post("/images/create", params=query, data=packed.getvalue()) as response,
    ):
        assert response.status == 200, await response.text()
        await response.read()


def _as_program(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mode = 0o755
    return member


async def start_container(host: str, name: str, *command: str) -> None:
    body = {"Image": "busybox:test", "Cmd": list(command)}
    async with engine_api.session(host, timeout_s=60) as http:
        async with http.post("/containers/create", params={"name": name}, json=body) as response:
            assert response.status == 201, await response.text()
        async with http.post(f"/containers/{name}/start") as response:
            assert response.status == 204, await response.text()


async def wait_for_exit(host: str, name: str) -> int:
    """The exit code of the container, once it has ended."""
    async with (
        engine_api.session(host, timeout_s=60) as http,
        http.post(f"/containers/{name}/wait") as response,
    ):
        code: int = (await response.json())["StatusCode"]
    return code


async def inspect(host: str, name: str) -> dict[str, object]:
    """The State object of the container."""
    async with engine_api.session(host) as http, http.get(f"/containers/{name}/json") as response:
        assert response.status == 200, await response.text()
        state: dict[str, object] = (await response.json())["State"]
    return state


async def put_object(access: S3Access, bucket: str, key: str, body: bytes) -> None:
    async with _client(access) as s3:
        await s3.create_bucket(Bucket=bucket)
        await s3.put_object(Bucket=bucket, Key=key, Body=body)


async def get_object(access: S3Access, bucket: str, key: str) -> bytes:
    async with _client(access) as s3:
        answer = await s3.get_object(Bucket=bucket, Key=key)
        body: bytes = await answer["Body"].read()
    return body


async def list_keys(access: S3Access, bucket: str) -> list[str]:
    async with _client(access) as s3:
        answer = await s3.list_objects_v2(Bucket=bucket)
        return [each["Key"] for each in answer.get("Contents", [])]


def _client(access: S3Access):  # type: ignore[no-untyped-def]
    return aioboto3.Session().client(
        "s3",
        endpoint_url=access.endpoint,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        region_name=access.region,
    )


async def engine_id(host: str) -> str:
    """By which the ledger knows an engine."""
    async with engine_api.session(host, timeout_s=60) as http, http.get("/info") as response:
        return str((await response.json())["ID"])


@asynccontextmanager
async def running(engine: DockerEngine) -> AsyncIterator[None]:
    """A dockerd of the test's own, with busybox and, in the end, without containers."""
    try:
        await engine.start()
        await import_busybox(engine.host)
        yield
        await engine_api.remove_all(engine.host)
    finally:
        await engine.stop()
