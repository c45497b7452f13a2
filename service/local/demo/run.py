"""The demo, step by step; each is told as it happens and checked when it is over."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from rich.console import Console
from rich.text import Text

from service.cli import objects, watch
from service.cli.client import Client
from service.cli.output import size
from service.cli.where import Up, Where
from service.errors import JobyardError, LedgerCorrupt
from service.ledger import database, rebuild
from service.ledger import verify as chain
from service.local.demo import checks, image, train

ALIAS = "local"
DATA, MODELS = "demo-data", "demo-models"
HERE = Path(__file__).parent
UPLOADS = [
    ("digits/digits.csv.gz", HERE / "digits" / "digits.csv.gz"),
    ("digits/SOURCE.md", HERE / "digits" / "SOURCE.md"),
    ("code/train.py", HERE / "train.py"),
]
STOP_TIMEOUT_S = 20.0
_WROTE = re.compile(r"^wrote (\S+) sha256 ([0-9a-f]{64})$", re.MULTILINE)


class Demo:
    """One run of the demo against a running service. `notes` is for people; so is `log`, for bytes."""

    def __init__(self, up: Up, out: Path, notes: Console, log: BinaryIO) -> None:
        self.up = up
        self.folder = out
        self.notes = notes
        self.log = log
        self.wrong: list[str] = []
        self._step = 0

    async def run(self) -> dict[str, Any]:
        """Everything; the answer for programs. What went wrong is in `wrong`."""
        async with Client(Where(self.up.url, self.up.token)) as client:
            self.step("An image with Python")
            reference = await image.ready(self.up.docker_host, self.say)
            self.say(reference)
            await self._upload(client)
            job, text = await self._train(client, reference)
            found = self._outcome(job)
            if not self.wrong:
                found |= await self._download(client, job, text)
                found |= await self._bill(client, job)
        found |= await self._verify()
        return found

    def step(self, title: str) -> None:
        self._step += 1
        self.notes.print()
        self.notes.print(Text(f"{self._step}. {title}", "bold"))

    def say(self, text: str) -> None:
        self.notes.print(Text(f"   {text}"))

    def check(self, wrong: list[str], right: str) -> None:
        """Tells what was found right, or keeps what is wrong."""
        self.wrong += wrong
        for each in wrong:
            self.notes.print(Text(f"   ✗ {each}", "bold red"))
        if not wrong:
            self.notes.print(Text(f"   ✓ {right}", "green"))

    async def _upload(self, client: Client) -> None:
        self.step(f"1,797 images of handwritten digits, and a training script, to {DATA}@{ALIAS}")

        def told(moved: objects.Moved) -> None:
            self.say(f"{moved.key}  {size(moved.size_bytes)}")

        await objects.upload(client, ALIAS, DATA, UPLOADS, told)

    async def _train(self, client: Client, reference: str) -> tuple[Any, str]:
        """Runs the job to its end: the job as it ended, and what it wrote."""
        self.step("The training, as a job")
        made = await client.post("/job", spec_of(reference, f"demo-{uuid4().hex[:8]}"))
        self.say(f"job {made['id']}")
        screen = watch.Screen(self.notes, self.log)
        try:
            job = await watch.follow(client, made["id"], screen)
        except asyncio.CancelledError:
            await self._interrupt(client, made["id"])
            raise
        async with client.stream(f"/job/{made['id']}/log") as chunks:
            text = b"".join([chunk async for chunk in chunks]).decode(errors="replace")
        return job, text

    async def _interrupt(self, client: Client, job_id: str) -> None:
        """Ctrl-C ends the demo's job too: nobody else knows of it."""
        self.say("Interrupting the job")
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await client.put(f"/job/{job_id}/kill")
                screen = watch.Screen(self.notes, self.log)
                seen = (await client.get(f"/job/{job_id}"))["status"]["history"][-1]
                await watch.follow(client, job_id, screen, with_log=False, seen=seen)
        except (JobyardError, TimeoutError) as error:
            self.say(f"The job may still run: {getattr(error, 'message', 'it took too long to end')}")

    def _outcome(self, job: Any) -> dict[str, Any]:
        seen = [visit["state"] for visit in job["status"]["history"]]
        self.check(checks.states(seen), f"{' > '.join(seen)}, {job['status']['duration']} s of RUNNING")
        if self.wrong:
            self.say(job["status"]["info"]["message"])
        return {"jobId": job["id"], "states": seen}

    async def _download(self, client: Client, job: Any, text: str) -> dict[str, Any]:
        """The model comes back, whole, and reads digits that it has not seen as well as the job says."""
        self.step(f"The model, back from {MODELS}@{ALIAS}")
        prefix = job["spec"]["volumes"][-1]["dataStore"]["prefix"]
        keys = [each["key"] for each in await objects.listed(client, ALIAS, MODELS, prefix)]
        moved = await objects.download(client, ALIAS, MODELS, keys, self.folder)
        found = {each.file.name: _sha256(each.file) for each in moved}
        for each in moved:
            self.say(f"{each.file}  {size(each.size_bytes)}")
        told = dict(_WROTE.findall(text))
        missing = (
            [] if set(told) >= {"model.json", "metrics.json"} else ["the job did not tell what it wrote"]
        )
        self.check([*missing, *checks.hashes(told, found)], "the SHA-256 of each is what the job wrote")
        measured = await asyncio.to_thread(_measured, {each.file.name: each.file for each in moved})
        right = f"accuracy {measured[0]:.4f} on {measured[2]} images it has never seen, recomputed here"
        self.check(checks.accuracy(measured[0], measured[1]), right)
        artifacts = [each.as_json() | {"sha256": found[each.file.name]} for each in moved]
        return {"accuracy": measured[0], "artifacts": artifacts}

    async def _bill(self, client: Client, job: Any) -> dict[str, Any]:
        self.step("The bill")
        lines = (await client.get("/billing", job=job["id"]))["items"]
        if len(lines) != 1:
            self.check([f"{len(lines)} runs are billed, not one"], "")
            return {}
        line = lines[0]
        minutes = f"{line['minutes']} begun minute{'' if line['minutes'] == 1 else 's'}"
        self.say(f"{minutes} of {line['units']} x {line['flavor']} at {line['hourlyPrice']} an hour")
        right = f"{line['amount']} {line['currency']}, by policy {line['policy']}, from {_events(line)}"
        self.check(checks.bill(line, job["status"]["history"]), right)
        return {"billedMinutes": line["minutes"], "amount": line["amount"]}

    async def _verify(self) -> dict[str, Any]:
        """The ledger, asked directly: is every read model what its events say, and is every event intact?"""
        self.step("The ledger behind it")
        connection = await database.connect(self.up.database_url, admin=True)
        intact = False
        try:
            folded = await rebuild.verify(connection, [], self.say)
            different = [each.fold for each in folded if each.differences]
            rows = sum(each.rows for each in folded)
            self.check(
                [f"projection {name} is not what the ledger says" for name in different],
                f"{len(folded)} projections, {rows} rows: folded again, and the same",
            )
            found = await chain.verify(connection)
            intact = True
            self.check([], f"{found.events} events, each chained to the one before: {found.hash.hex()[:16]}…")
        except LedgerCorrupt as error:
            self.check([error.message], "")
        finally:
            await database.close(connection)
        return {"auditVerified": intact}


def spec_of(reference: str, name: str) -> dict[str, Any]:
    """The job: data and code read-only, a folder of its own for what it makes."""
    return {
        "image": reference,
        "name": name,
        "command": [
            *("python", "/workspace/code/train.py"),
            *("--data", "/workspace/data/digits.csv.gz", "--out", "/workspace/out"),
        ],
        "envVars": [{"name": "PYTHONUNBUFFERED", "value": "1"}],
        "resources": {"cpu": 1},
        "timeout": 3600,
        "volumes": [
            _volume(DATA, "digits/", "/workspace/data", "RO"),
            _volume(DATA, "code/", "/workspace/code", "RO"),
            _volume(MODELS, f"{name}/", "/workspace/out", "RW"),
        ],
    }


def _volume(container: str, prefix: str, path: str, permission: str) -> dict[str, Any]:
    source = {"alias": ALIAS, "container": container, "prefix": prefix}
    return {"dataStore": source, "mountPath": path, "permission": permission}


def _measured(files: dict[str, Path]) -> tuple[float, float, int]:
    """The model's accuracy recomputed, the one the job told, and on how many images."""
    held_out = train.read(UPLOADS[0][1])[1]
    model = json.loads(files["model.json"].read_bytes())
    told = json.loads(files["metrics.json"].read_bytes())["accuracy"]
    return train.accuracy(model, held_out), told, len(held_out)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _events(line: Any) -> str:
    positions = line["positions"]
    return f"events {positions[0]} to {positions[-1]}" if positions else "no event"
