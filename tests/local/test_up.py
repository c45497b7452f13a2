"""What `up` refuses before it starts anything, and what it says of parts that are down."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pty
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import NoReturn

import pytest

from service.cli.exits import Exit
from service.config import read_settings
from service.local import log_file, up
from tests.acceptance import running
from tests.support.waiting import until


async def refused(state: Path, *words: str, **environ: str) -> str:
    """The line with which `up` ends; nothing was started, and so nothing made, by then."""
    (state / "docker" / "data").mkdir(parents=True)  # so that it would start a dockerd of its own
    environment = running.environment(state, **environ)
    environment.pop("DOCKER_HOST", None)
    streams = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, "env": environment}
    async with (
        running.started("up", "--state", str(state), *words, **streams) as process,
        asyncio.timeout(60),
    ):
        out, err = await process.communicate()
    assert process.returncode == Exit.USAGE and out == b"" and b"Traceback" not in err
    for made in ("docker/dockerd.log", "postgres", "postgres.path", "s3.json"):
        assert not (state / made).exists(), made
    return err.decode().strip()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_port_that_is_taken(state: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = await refused(state, "--port", port, "--api-workers", workers)
    assert said == f"jobyard: port {port} of 127.0.0.1 cannot be used: Address already in use; give --port"


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_port_for_ssh_that_is_taken(state: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = await refused(state, "--port", "0", "--api-workers", workers, JOBYARD_SSH_PORT=port)
    assert said == (
        f"jobyard: SSH port {port} of 127.0.0.1 cannot be used: Address already in use;"
        " set JOBYARD_SSH_PORT to another, or to off"
    )


@pytest.mark.parametrize(
    ("text", "mode", "why"), [("no key", 0o600, "cannot be read"), ("", 0o644, "can be read by others")]
)
async def test_an_ssh_host_key_that_is_none(state: Path, text: str, mode: int, why: str) -> None:
    file = state / "ssh_host_ed25519_key"
    file.write_text(text)
    file.chmod(mode)
    said = await refused(state, "--port", "0")
    assert said.startswith(f"jobyard: the SSH host key {file} {why}")
    assert file.read_text() == text


@pytest.mark.parametrize("key", ["not base64", base64.b64encode(b"short").decode()])
async def test_a_master_key_that_is_none(state: Path, key: str) -> None:
    said = await refused(state, "--port", "0", JOBYARD_MASTER_KEY=key)
    assert "master" in said.lower() and "32 bytes" in said and key not in said


@pytest.mark.parametrize("name", ["JOBYARD_MASTER_KEY", "JOBYARD_MIGRATION_URL", "DATABASE_URL"])
async def test_a_variable_that_is_there_and_empty(state: Path, name: str) -> None:
    said = await refused(state, "--port", "0", **{name: ""})
    assert said == f"jobyard: {name}: '' is not allowed; it is empty; give it a value, or leave it out"
    assert not (state / "master.key").exists()


async def test_variables_that_look_like_settings_and_are_none_are_named(state: Path) -> None:
    """Once each, in the log and in a line for people; all that the repository reads itself is known."""
    ours = {"JOBYARD_NODE_CPUS": "1", "JOBYARD_TOKEN": "t", "JOBYARD_TEST_S3": "{}", "JOBYARD_BENCH_AWS": "a"}
    wrong = {"JOBYARD_NODE_CPU": "hidden", "JOBYARD_FRIDGE": "hidden", "JOBYARD_MASTER_KEY": "none"}
    said = await refused(state, "--port", "0", **ours, **wrong)
    notes = [line for line in said.splitlines() if "is no setting" in line]
    assert [line for line in notes if not line.startswith("{")] == [
        "jobyard: JOBYARD_FRIDGE is no setting, and is ignored.",
        "jobyard: JOBYARD_NODE_CPU is no setting, and is ignored; did you mean JOBYARD_NODE_CPUS?",
    ]
    assert len(notes) == 4 and "hidden" not in said


@pytest.mark.parametrize("key", ["not base64", base64.b64encode(b"short").decode()])
async def test_a_checkpoint_key_that_is_none(state: Path, key: str) -> None:
    said = await refused(state, "--port", "0", JOBYARD_CHECKPOINT_KEY=key)
    assert "checkpoint" in said.lower() and "32 bytes" in said and key not in said


async def test_a_place_for_checkpoints_that_is_none(state: Path) -> None:
    said = await refused(state, "--port", "0", JOBYARD_CHECKPOINT_TO="s3://bucket")
    needs = "s3://bucket needs the keys of its store: set JOBYARD_CHECKPOINT_S3"
    assert said.startswith(f"jobyard: JOBYARD_CHECKPOINT_TO: {needs}")


async def test_a_place_for_checkpoints_without_a_bucket(state: Path) -> None:
    said = await refused(state, "--port", "0", JOBYARD_CHECKPOINT_TO="s3://")
    assert said.startswith(
        "jobyard: JOBYARD_CHECKPOINT_TO: 's3://' is not allowed; it must be a directory, or s3:"
    )


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"endpoint": "http://my_minio:9000"},
            "JOBYARD_S3: endpoint: 'http://my_minio:9000' is not",
        ),
        ({"endpoint": "https://key:hidden@s3.example.org"}, "JOBYARD_S3: endpoint: 'a URL with a user'"),
        ({"region": "nowhere in particular"}, "JOBYARD_S3: region: 'nowhere in particular' is not allowed;"),
        ({"accessKey": ""}, "JOBYARD_S3: it must be {"),
        ({"secretKey": 7}, "JOBYARD_S3: it must be {"),
    ],
)
async def test_an_object_store_that_none_could_enter(state: Path, given: dict[str, object], why: str) -> None:
    store = {"endpoint": "http://127.0.0.1:1", "accessKey": "a" * 16, "secretKey": "hidden" * 3} | given
    said = await refused(state, "--port", "0", JOBYARD_S3=json.dumps(store))
    assert said.startswith(f"jobyard: {why}") and "hidden" not in said, said


@pytest.mark.parametrize("word", ["up", "demo"])
async def test_a_state_directory_that_is_empty_is_not_the_one_somebody_stands_in(
    word: str, state: Path
) -> None:
    here = sorted(Path.cwd().iterdir())
    otherwise = {"JOBYARD_STATE_DIR": "", "JOBYARD_MASTER_KEY": "none"}  # so that nothing would start here
    for given, name in ((("--state", ""), "--state"), ((), "JOBYARD_STATE_DIR")):
        said = await running.cli(word, *given, state=state, **otherwise)
        assert (said.code, said.out) == (Exit.USAGE, "")
        assert said.err.startswith(f"jobyard: {name}: '' is not allowed; it is empty; "), said
        assert said.err.count("\n") == 1
    assert sorted(Path.cwd().iterdir()) == here


@pytest.mark.parametrize("word", ["up", "demo"])
@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("/proc/there-is-none", "the state directory {} cannot be made: No such file or directory"),
        ("/proc", "nothing can be written in {}: No such file or directory"),
        (__file__, "the state directory {} cannot be made: File exists"),
        (f"{__file__}/below", "the state directory {} cannot be made: Not a directory"),
    ],
)
async def test_a_state_directory_that_cannot_be(word: str, folder: str, why: str, state: Path) -> None:
    said = await running.cli(word, "--state", folder, state=state)
    assert (said.code, said.err) == (Exit.USAGE, f"jobyard: {why.format(folder)}\n")


async def test_a_log_that_cannot_be_written_at_a_terminal(state: Path) -> None:
    ours, theirs = pty.openpty()
    environment = running.environment(state)
    async with (
        running.started("up", "--state", "/proc", stdout=DEVNULL, stderr=theirs, env=environment) as process,
        asyncio.timeout(60),
    ):
        assert await process.wait() == Exit.USAGE
    os.close(theirs)
    said = os.read(ours, 65536)
    os.close(ours)
    assert said.strip() == b"jobyard: nothing can be written in /proc: No such file or directory"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("99999", "jobyard: --port: 99999 is not allowed; it must be a whole number from 0 to 65535"),
        ("abc", "'--port': 'abc' is not allowed; it must be a whole number"),
    ],
)
async def test_a_port_that_is_none_is_blamed_on_the_option(state: Path, given: str, said: str) -> None:
    found = await running.cli("up", "--port", given, state=state)
    assert found.code == Exit.USAGE and said in found.err


async def test_an_address_that_is_not_here(state: Path) -> None:
    said = await refused(state, "--port", "0", "--host", "192.0.2.1")
    assert said.startswith("jobyard: port 0 of 192.0.2.1 cannot be used")


async def test_an_engine_of_no_name_counts_as_unset(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Exception):
        """What the parts are to be."""

    def parts(*_: object, docker_host: str | None, **__: object) -> NoReturn:
        raise Asked(docker_host)

    monkeypatch.setattr(up, "local_parts", parts)
    monkeypatch.setenv("DOCKER_HOST", "")
    with log_file.on_stderr() as log, pytest.raises(Asked, match="None"):
        async with up.running(read_settings({}, state_dir=state), log):
            raise AssertionError


@pytest.mark.parametrize("name", ["DATABASE_URL", "JOBYARD_MIGRATION_URL"])
async def test_a_database_that_refuses_is_told_by_its_variable(
    state: Path, database_url: str, name: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}/yard"
    given = {"DATABASE_URL": database_url, name: f"postgresql://ann:hidden@{nobody}"}
    engine, store = os.environ["JOBYARD_TEST_DOCKER_HOST"], os.environ["JOBYARD_TEST_S3"]
    environment = running.environment(state, DOCKER_HOST=engine, JOBYARD_S3=store, **given)
    streams = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, "env": environment}
    words = ("up", "--state", str(state), "--port", "0")
    async with running.started(*words, **streams) as process, asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == Exit.UNREACHABLE, err
    assert f"jobyard: {name}: postgresql://ann@{nobody}: Postgres did not answer".encode() in err
    assert b"hidden" not in out + err and b"Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_one_that_is_stopped_before_it_is_ready_says_so(state: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        environment = running.environment(
            state,
            DATABASE_URL=f"postgresql://ann:secret@127.0.0.1:{silent.getsockname()[1]}/yard?sslmode=disable",
            DOCKER_HOST=os.environ["JOBYARD_TEST_DOCKER_HOST"],
            JOBYARD_S3=os.environ["JOBYARD_TEST_S3"],
        )
        streams = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, "env": environment}
        async with (
            running.started("up", "--state", str(state), "--port", "0", **streams) as process,
            asyncio.timeout(60),
        ):
            asked, _ = await asyncio.get_running_loop().sock_accept(silent)
            with asked:
                process.send_signal(number)
                out, err = await process.communicate()
    assert process.returncode == Exit.INTERRUPTED and b"Traceback" not in err
    assert b"Stopped before it was ready, and so is each part" in err and b"is ready at" not in out


@pytest.mark.parametrize("instead", [False, True], ids=["nothing", "another"])
@pytest.mark.parametrize("when", ["is ready at", "Ctrl-C stops"])  # and not only once it has told all
async def test_one_whose_state_directory_is_moved_ends(
    state: Path, database_url: str, when: str, instead: bool
) -> None:
    """What it did from then on would be kept in another one. The next `up` goes on with what was moved."""
    here = state / "here"
    environment = running.environment(
        here,
        DATABASE_URL=database_url,
        DOCKER_HOST=os.environ["JOBYARD_TEST_DOCKER_HOST"],
        JOBYARD_S3=os.environ["JOBYARD_TEST_S3"],
    )
    streams = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, "env": environment}
    words = ("up", "--state", str(here), "--port", "0")
    async with running.started(*words, **streams) as process, asyncio.timeout(60):
        assert process.stdout is not None
        while when.encode() not in await process.stdout.readline():
            pass
        here.rename(state / "there")
        if instead:
            here.mkdir()
        _, err = await process.communicate()
    assert process.returncode == Exit.USAGE and b"Traceback" not in err
    told = f"jobyard: the state directory {here} is not there any more: moved, removed, not mounted"
    assert err.decode().strip().splitlines()[-1] == told


async def test_one_that_is_stopped_while_it_is_read_in_says_so(state: Path) -> None:
    """Which takes over a second, in which nothing else can answer."""
    environment = running.environment(state, PYTHONPROFILEIMPORTTIME="1")  # Python then tells what it imports
    streams = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, "env": environment}
    words = ("up", "--state", str(state), "--port", "0")
    async with running.started(*words, **streams) as process, asyncio.timeout(60):
        assert process.stderr is not None
        while b"service.cli.main" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert process.returncode == Exit.INTERRUPTED and b"Traceback" not in err
    assert err.endswith(b"Stopped before it was ready; no part of it was started.\n") and out == b""
    assert not (state / "postgres").exists()


def test_a_store_that_refuses_its_keys_is_told_of_at_once(state: Path, database_url: str) -> None:
    said = said_at_first(state, database_url, cpus="4000", secretKey="not-the-secret-that-it-has")
    assert "But JOBYARD_NODE_CPUS is 4000, more than the " in said
    assert "But the object store is not ready: it refuses the service. " in said


def test_nothing_is_said_of_parts_that_are_well(state: Path, database_url: str) -> None:
    assert "But " not in said_at_first(state, database_url, cpus="1")


def said_at_first(state: Path, database_url: str, *, cpus: str, **changed: str) -> str:
    """What `up` says until it has told how to stop it; `changed` of what the store is entered with."""
    store = json.loads(os.environ["JOBYARD_TEST_S3"]) | changed
    given = {
        "DATABASE_URL": database_url,
        "DOCKER_HOST": os.environ["JOBYARD_TEST_DOCKER_HOST"],
        "JOBYARD_S3": json.dumps(store),
        "JOBYARD_NODE_CPUS": cpus,
        "JOBYARD_SSH_PORT": "off",
        "JOBYARD_LOG_LEVEL": "critical",
    }
    log = state / "up.log"
    with running.service(state, **given):
        asyncio.run(until(lambda: "Ctrl-C stops" in log.read_text()))
        return log.read_text()
