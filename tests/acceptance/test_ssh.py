"""SSH into a job of a real service, by the address that its status tells, with the real client."""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from ovhai.models import Job

from service.ssh.host_key import host_key
from tests.acceptance import running
from tests.acceptance.running import Service
from tests.images import BUSYBOX
from tests.ssh.client import Key
from tests.support.waiting import DEADLINE_S, until

WAITS = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


async def call(service: Service, method: str, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {service.up['token']}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, f"{service.up['url']}{path}", json=body) as answer,
    ):
        assert answer.status < 300, await answer.text()
        return await answer.json() if answer.status == 200 else None


@asynccontextmanager
async def job(service: Service, key: Key) -> AsyncIterator[Any]:
    """A job that is RUNNING, as its status shows it."""
    spec = {"image": BUSYBOX, "command": WAITS, "resources": {"cpu": 1}, "sshPublicKeys": [key.public]}
    made = await call(service, "POST", "/v1/job", spec)
    path = f"/v1/job/{made['id']}"

    async def runs() -> bool:
        return bool((await call(service, "GET", path))["status"]["state"] == "RUNNING")

    await until(runs)
    yield await call(service, "GET", path)
    await call(service, "DELETE", f"{path}?force=true")


async def ssh(key: Key, url: str, known_hosts: Path, *words: str) -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec(
        *("ssh", "-F", "none", "-i", str(key.file), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"),
        *("-o", f"UserKnownHostsFile={known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "StrictHostKeyChecking=yes", url, *words),
        stdin=DEVNULL,
        stdout=PIPE,
    )
    async with asyncio.timeout(DEADLINE_S):
        out, _ = await process.communicate()
    return process.returncode or 0, out


def known(service: Service, url: str, file: Path) -> Path:
    """What a user who was told the host key knows."""
    found = re.fullmatch(r"ssh://[0-9a-f-]{36}@127\.0\.0\.1:(\d+)", url)
    assert found is not None, url
    public = host_key(service.state / "ssh_host_ed25519_key").export_public_key().decode()
    file.write_text(f"[127.0.0.1]:{found[1]} {public}")
    return file


async def test_a_jobs_own_address_leads_into_its_container(service: Service, tmp_path: Path) -> None:
    key = Key.made(tmp_path / "ada")
    async with job(service, key) as shown:
        url = shown["status"]["sshUrl"]
        status = Job.from_dict(shown).status
        assert status and status.ssh_url == url
        assert shown["spec"]["sshPublicKeys"] == [key.public]
        told = await service.cli("job", "get", shown["id"])
        assert f"ssh        {url}\n" in told.out, told
        hosts = known(service, url, tmp_path / "known_hosts")
        code, out = await ssh(key, url, hosts, "id -u; exit 3")
        assert (code, out) == (3, b"42420\n")

    async def refused() -> bool:
        return (await ssh(key, url, hosts, "true"))[0] == 255

    await until(refused)  # it answers while the process takes its stop order


def test_every_process_of_the_api_answers_ssh_and_the_host_key_stays(parts: None, tmp_path: Path) -> None:
    state = running.new_state()
    key = Key.made(tmp_path / "ada")
    said = []
    for workers in ("2", "1"):
        with running.service(state, "--api-workers", workers) as service:

            async def story(service: Service = service) -> None:
                async with job(service, key) as shown:
                    url = shown["status"]["sshUrl"]
                    hosts = known(service, url, tmp_path / "known_hosts")
                    ends = await asyncio.gather(*(ssh(key, url, hosts, f"exit {n}") for n in range(4)))
                    assert [code for code, _ in ends] == list(range(4))

            asyncio.run(story())
        lines = (state / "up.log").read_text().splitlines()
        said.append([line for line in lines if line.startswith("SSH into jobs listens at")][-1])
    fingerprints = {line.rpartition(" ")[2] for line in said}
    assert fingerprints == {host_key(state / "ssh_host_ed25519_key").get_fingerprint()}
    running.remove(state)
