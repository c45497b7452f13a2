"""A job's SSH keys and its address over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncssh

from tests.api.yard import OPERATOR, READER, SPEC, Yard, furnish, opened

KEY = asyncssh.generate_private_key("ssh-ed25519", comment="ada").export_public_key().decode()


async def test_keys_are_answered_as_one_line_each_with_the_address(yard: Yard) -> None:
    job = await yard.submit(sshPublicKeys=[f"  {KEY}\n"])
    assert job["spec"]["sshPublicKeys"] == [KEY.strip()]
    assert job["status"]["sshUrl"] == f"ssh://{job['id']}@yard.test:8722"
    read = (await yard.call("GET", f"/v1/job/{job['id']}", token=READER)).json
    assert read == job
    again = (await yard.call("POST", "/v1/job", read["spec"] | {"name": "again"})).json
    assert again["spec"]["sshPublicKeys"] == job["spec"]["sshPublicKeys"]
    asked = SPEC | {"sshPublicKeys": [KEY.strip()]}
    command = (await yard.call("POST", "/v1/job/command", asked)).json["command"]
    assert command.count(f"--ssh-public-keys '{KEY.strip()}'") == 1


async def test_without_keys_there_is_no_address(yard: Yard) -> None:
    nobody: list[dict[str, Any]] = [{}, {"sshPublicKeys": []}, {"sshPublicKeys": None}]
    for keys in nobody:
        job = await yard.submit(**keys)
        assert job["status"]["sshUrl"] is None
        assert "sshPublicKeys" not in job["spec"]


async def test_where_ssh_is_off_keys_are_refused_at_once(database: str, tmp_path: Path) -> None:
    async with opened(database, tmp_path, {}, ssh_address="") as yard:
        await furnish(yard.ledger)
        await yard.token(OPERATOR, OPERATOR)
        answer = await yard.call("POST", "/v1/job", SPEC | {"sshPublicKeys": [KEY]})
        assert (answer.status, answer.json["field"]) == (400, "sshPublicKeys")
        assert answer.json["message"] == (
            "sshPublicKeys: 1 keys; SSH is switched off on this service; leave them out"
        )
        assert (await yard.submit())["status"]["sshUrl"] is None
