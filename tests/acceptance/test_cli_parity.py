"""Every word that is kept, against a real service: what it asks for, and its JSON and YAML read back.

In this very process, as each start of Python would cost more than what it then does.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import typer
import yaml

from service.cli.client import Client
from service.cli.main import app_for
from tests.acceptance.running import Service
from tests.acceptance.words import KEY, OPTIONS, STORY, STREAMS, Step
from tests.images import BUSYBOX

Asked = list[tuple[str, Any]]
_TREE: Any = typer.main.get_command(app_for())


@pytest.fixture
def asked(service: Service, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the commands ask the service for, which answers as always: method and path, and the body."""
    monkeypatch.setenv("JOBYARD_STATE_DIR", str(service.state))
    monkeypatch.setenv("JOBYARD_REGISTRY_PASSWORD", "secret")
    for name in ("JOBYARD_URL", "JOBYARD_TOKEN", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    seen: Asked = []
    request = Client._request

    def noting(self: Client, method: str, path: str, **given: Any) -> Any:
        seen.append((f"{method} {path}", given.get("body")))
        return request(self, method, path, **given)

    monkeypatch.setattr(Client, "_request", noting)
    return seen


def left_with(*words: str) -> int:
    """The exit status of one command line."""
    with pytest.raises(SystemExit) as left:
        app_for(words[0])(list(words), prog_name="jobyard")
    return int(left.value.code or 0)


@pytest.mark.parametrize("format", ["json", "yaml"])
def test_every_word_is_kept_and_what_it_answers_can_be_read(
    asked: Asked, service: Service, capfd: pytest.CaptureFixture[str], tmp_path: Path, format: str
) -> None:
    (tmp_path / "x.csv").write_text("1,2\n")
    known = {"file": str(tmp_path / "x.csv"), "folder": str(tmp_path), "project": f"p{uuid4().hex[:8]}"}
    known["checkpoints"] = str(service.state / "checkpoints")
    for step in STORY:
        known |= _taken(step, known, asked, capfd, format)
    written = [each for each in tmp_path.iterdir() if each.suffix in (".json", ".jsonl", ".parquet")]
    assert {each.name for each in written} >= {"i.json", "bill.parquet", "proof.json", "trail.jsonl"}
    assert {each.name: each.stat().st_mode & 0o777 for each in written} == {
        each.name: 0o600 for each in written
    }


def _taken(
    step: Step, known: dict[str, str], asked: Asked, capfd: pytest.CaptureFixture[str], format: str
) -> dict[str, str]:
    """Takes a step; the names that it adds to what is known."""
    words = _filled(step.words.split() if isinstance(step.words, str) else list(step.words), known)
    at = words.index("--") if "--" in words else len(words)
    words[at:at] = [step.format_word, format]
    asked.clear()
    while True:
        code = left_with(*words)
        out, err = capfd.readouterr()
        assert code == step.code, (words, err)
        document = (json.loads if format == "json" else yaml.safe_load)(out or "null")
        if not step.until or document["status"]["state"] == step.until:
            break
    assert "\x1b" not in out
    requests = [request for request, _ in asked]
    assert [each for each in _filled(step.asks, known) if each not in requests] == [], (words, requests)
    if step.sends:
        body = asked[-1][1] or next(body for _, body in reversed(asked) if body)
        assert {name: body.get(name) for name in step.sends} == _filled(step.sends, known), words
    found = {path: _at(document, path) for path in step.finds}
    assert found == _filled(step.finds, known), words
    return {name: str(_at(document, path)) for name, path in step.keep.items()}


def _filled(value: Any, known: dict[str, str]) -> Any:
    """With the ids in place of their names."""
    if isinstance(value, str):
        for name, text in known.items():
            value = value.replace(f"{{{name}}}", text)
        return value
    if isinstance(value, dict):
        return {name: _filled(each, known) for name, each in value.items()}
    return [_filled(each, known) for each in value] if isinstance(value, list | tuple) else value


def _at(document: Any, path: str) -> Any:
    for part in path.split("."):
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def test_a_key_is_sent_as_it_is(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether SSH is offered is the service's to say."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id.pub").write_text(f"{KEY}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    other = KEY.replace(" me", " you")
    left_with(
        "job", "run", "-c", "1", "-s", "~/.ssh/id.pub", "--ssh-public-keys", other, BUSYBOX, "--", "true"
    )
    assert [(request, body["sshPublicKeys"]) for request, body in asked] == [
        (request, [KEY, other]) for request in ("POST /job", "POST /job/estimate")
    ]
    asked.clear()
    (tmp_path / ".ssh" / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert left_with("job", "run", "-c", "1", "-s", "~/.ssh/id", BUSYBOX) == 2
    assert asked == []


@pytest.mark.parametrize("command", OPTIONS)
def test_every_option_of_ovhai_is_known(command: str) -> None:
    known = {each for parameter in _command(command).params for each in parameter.opts}
    assert set(OPTIONS[command].split()) <= known


def test_every_command_is_in_the_story_and_shows_an_example() -> None:
    told = {_name(step.words) for step in STORY} | STREAMS
    commands = dict(_leaves(_TREE))
    assert set(commands) <= told
    for name, command in commands.items():
        example = command.epilog.rpartition("\n")[2].strip()
        assert example.startswith(f"jobyard {name}"), name
        words = shlex.split(example.partition(" && ")[0])[len(name.split()) + 1 :]
        command.make_context(name, words)  # it parses


def _name(words: str | tuple[str, ...]) -> str:
    """The command that a line begins with, by its own name."""
    found, names = _TREE, []
    for word in words.split() if isinstance(words, str) else words:
        found = getattr(found, "commands", {}).get(word)
        if found is None:
            break
        names.append(word)
    return " ".join(names)


def _command(name: str) -> Any:
    found = _TREE
    for word in name.split():
        found = found.commands[word]
    return found


def _leaves(group: Any, *names: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, *names, name)
        elif not command.hidden:
            yield " ".join((*names, name)), command
