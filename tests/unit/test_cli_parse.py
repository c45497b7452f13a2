"""What people write in options: every documented form, and errors that name the option."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from service.cli import exits, objects, parse
from service.cli.job_run import merged
from service.cli.output import Format, encoded, size, span
from service.domain.states import ENDED
from service.errors import (
    Forbidden,
    Invalid,
    JobyardError,
    LedgerCorrupt,
    NotFound,
    NotNow,
    QuotaExceeded,
    Rejected,
    Unauthenticated,
    Unavailable,
    UnsafeKey,
    WrongState,
)


def _store(container: str, alias: str, prefix: str = "") -> dict[str, Any]:
    place = {"alias": alias, "container": container} | ({"prefix": prefix} if prefix else {})
    return {"dataStore": place}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("c@GRA:/data", _store("c", "GRA") | {"mountPath": "/data", "permission": "RO"}),
        ("c@GRA/:/data:RO", _store("c", "GRA") | {"mountPath": "/data", "permission": "RO"}),
        ("c@GRA/a/b/:/data:rw", _store("c", "GRA", "a/b/") | {"mountPath": "/data", "permission": "RW"}),
        ("c@GRA:/data:rwd", _store("c", "GRA") | {"mountPath": "/data", "permission": "RWD"}),
        ("c@GRA:/data:r", _store("c", "GRA") | {"mountPath": "/data", "permission": "RO"}),
        (
            "c@GRA:/data:ro:cache",
            _store("c", "GRA") | {"mountPath": "/data", "permission": "RO", "cache": True},
        ),
        (
            "c@GRA:/data:RW:no-cache",
            _store("c", "GRA") | {"mountPath": "/data", "permission": "RW", "cache": False},
        ),
        ("c@GRA:/data:cache", _store("c", "GRA") | {"mountPath": "/data", "permission": "RO", "cache": True}),
        ("c@GRA/a:b:/data:ro", _store("c", "GRA", "a:b") | {"mountPath": "/data", "permission": "RO"}),
        ("c@GRA/a@b:/data", _store("c", "GRA", "a@b") | {"mountPath": "/data", "permission": "RO"}),
        ("c@s3:/ro", _store("c", "s3") | {"mountPath": "/ro", "permission": "RO"}),
        (
            "c@GRA/a/b.tar.gz:/data:rw:archive",
            {
                "dataStore": {"alias": "GRA", "container": "c", "archive": "a/b.tar.gz"},
                "mountPath": "/data",
                "permission": "RW",
            },
        ),
        (
            "c@GRA/b.zip:/data:ro:cache:archive",
            {
                "dataStore": {"alias": "GRA", "container": "c", "archive": "b.zip"},
                "mountPath": "/data",
                "permission": "RO",
                "cache": True,
            },
        ),
        (
            "6F9619FF-8b86-4d01-b42d-00cf4fc964ff:/data:rw",
            {
                "userVolumeId": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
                "mountPath": "/data",
                "permission": "RW",
            },
        ),
        ("standalone:/scratch:rw", {"standalone": {}, "mountPath": "/scratch", "permission": "RW"}),
        ("standalone:/scratch", {"standalone": {}, "mountPath": "/scratch", "permission": "RW"}),
        (
            "https://example.org/a.git:/code:ro",
            {
                "publicGit": {"url": "https://example.org/a.git"},
                "mountPath": "/code",
                "permission": "RO",
            },
        ),
        (
            "https://example.org:8443/a.git:/code",
            {
                "publicGit": {"url": "https://example.org:8443/a.git"},
                "mountPath": "/code",
                "permission": "RO",
            },
        ),
    ],
)
def test_every_form_of_a_volume(text: str, expected: dict[str, Any]) -> None:
    assert parse.volume(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c",
        "c@GRA",
        "c@GRA:data",
        "c:/data",
        "@GRA:/data",
        "c@:/data",
        "c@/prefix:/data",
        ":/data",
        "c@GRA:/data:rx",
        "c@GRA:/data:ro:cached",
        "c@GRA:/data:cache:ro",
        "c@GRA:/data:archive",
        "c@GRA/a.tar:/data:archive:ro",
        "standalone:/data:rw:archive",
        "https://example.org/a.tar:/data:archive",
        "6f9619ff-8b86-4d01-b42d-00cf4fc964ff:/data:archive",
        "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "https://example.org/a.git",
        "standalone",
    ],
)
def test_a_volume_that_cannot_be_read_names_its_option(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse.volume(text)
    assert refusal.value.field == "--volume"
    assert "CONTAINER@ALIAS" in refusal.value.message or "archive" in refusal.value.message


def test_what_is_at_a_path_is_pushed_elsewhere() -> None:
    made = parse.volumes(["standalone:/out", "c@GRA:/in:ro"], ["results@GRA/run1/:/out/"])
    assert made[0]["targetDataStore"] == {"alias": "GRA", "container": "results", "prefix": "run1/"}
    assert "targetDataStore" not in made[1]
    packed = parse.volumes(["standalone:/out"], ["results@GRA/a.tar:/out:archive"])
    assert packed[0]["targetDataStore"] == {"alias": "GRA", "container": "results", "archive": "a.tar"}


@pytest.mark.parametrize("text", ["", "c@GRA", "c@GRA:/elsewhere", "c:/out", "c@GRA:/out:archive", ":/out"])
def test_a_place_to_push_to_that_cannot_be_read_names_its_option(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse.volumes(["standalone:/out"], [text])
    assert refusal.value.field == "--push-to"


def test_the_source_of_a_volume_of_the_project() -> None:
    assert parse.source("SOURCE", "c@GRA/a/") == _store("c", "GRA", "a/")
    assert parse.source("SOURCE", "standalone") == {"standalone": {}}
    assert parse.source("SOURCE", "https://example.org/a.git") == {
        "publicGit": {"url": "https://example.org/a.git"}
    }
    for text in ("c", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"):
        with pytest.raises(Invalid) as refusal:
            parse.source("SOURCE", text)
        assert refusal.value.field == "SOURCE"
    with pytest.raises(Invalid) as shown:
        parse.source("SOURCE", "nothing")
    assert ":/PATH" not in shown.value.message and "CONTAINER@ALIAS[/PREFIX]," in shown.value.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3600", 3600),
        ("1h", 3600),
        ("90m", 5400),
        ("7d", 604_800),
        ("1w", 604_800),
        ("45s", 45),
        ("1h30m", 5400),
        (" 1H ", 3600),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse.duration_s("--timeout", text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1.5h", "-1h", "1h 30m", "1y", "0", "0s", "１h", "1h30"])
def test_a_duration_that_cannot_be_read_names_its_option(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse.duration_s("--timeout", text)
    assert refusal.value.field == "--timeout"


def test_variables_come_as_written_or_from_the_environment() -> None:
    found = parse.env_vars(["A=1", "B=x=y", "HOME", "EMPTY=", "A=2"], {"HOME": "/root", "B": "other"})
    assert {each["name"]: each["value"] for each in found} == {
        "A": "2",
        "B": "x=y",
        "HOME": "/root",
        "EMPTY": "",
    }


def test_a_variable_that_is_not_set_is_refused_by_its_name() -> None:
    with pytest.raises(Invalid, match="NOT_SET") as refusal:
        parse.env_vars(["NOT_SET"], {})
    assert refusal.value.field == "--env"


def test_a_variable_without_a_name_is_refused_without_its_value() -> None:
    wanted = "write NAME=VALUE, or NAME to take the value from your environment"
    for text, shown in (("=hunter2", "'=…'"), ("", "''")):
        with pytest.raises(Invalid) as refusal:
            parse.env_vars([text], {})
        said = f"--env: {shown} is not allowed; its name is empty; {wanted}"
        assert refusal.value.message == said


def test_a_label_may_have_no_value() -> None:
    assert parse.labels(["a=", "b=c=d"]) == {"a": "", "b": "c=d"}


@pytest.mark.parametrize("text", ["a", "=b", ""])
def test_a_label_needs_a_name_and_an_equals_sign(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse.labels([text])
    assert refusal.value.field == "--label"


@pytest.mark.parametrize("text", ["", "@a", "c@", "c/x@a", "c@a/x"])
def test_a_container_that_cannot_be_read(text: str) -> None:
    with pytest.raises(Invalid):
        parse.bucket(text)


def test_a_container_with_and_without_its_data_store() -> None:
    assert parse.bucket("models@GRA") == ("models", "GRA")
    assert parse.bucket("models") == ("models", None)


def test_what_is_asked_goes_over_what_is_taken_from_another_job() -> None:
    base = {
        "image": "old:1",
        "timeout": 60,
        "envVars": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "labels": {"a": "1"},
        "resources": {"cpu": 2},
    }
    asked = {
        "image": "new:1",
        "timeout": None,
        "envVars": [{"name": "B", "value": "3"}],
        "labels": {"b": "2"},
        "resources": {"gpu": 1},
    }
    assert merged(base, asked) == {
        "image": "new:1",
        "timeout": 60,
        "envVars": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}],
        "labels": {"a": "1", "b": "2"},
        "resources": {"gpu": 1},
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Invalid("--volume", "x", "y"), 2),
        (Rejected("x"), 2),
        (NotFound("x"), 3),
        (Forbidden("x"), 4),
        (QuotaExceeded("x"), 4),
        (Unauthenticated("x"), 4),
        (WrongState("x"), 4),
        (Unavailable("x"), 6),
        (NotNow("x"), 7),
        (LedgerCorrupt(3, "x"), 1),
        (JobyardError("x"), 1),
    ],
)
def test_the_exit_status_of_every_kind_of_error(error: JobyardError, status: int) -> None:
    assert exits.of_error(error) == status


def test_the_exit_status_of_every_end_of_a_job() -> None:
    assert {str(state): int(exits.of_state(state)) for state in ENDED} == {
        "DONE": 0,
        "FAILED": 1,
        "INTERRUPTED": 5,
        "ERROR": 5,
    }


def test_the_help_says_what_else_has_failed() -> None:
    (failed,) = re.findall(r"^  1 (.*?)^  2 ", exits.HELP, re.DOTALL | re.MULTILINE)
    for word in ("FAILED", "push-data", "pull-data", "webhook test", "verification", "file"):
        assert word in failed, word


def test_every_exit_status_is_in_the_help() -> None:
    named = {int(line.split()[0]) for line in exits.HELP.splitlines() if line.strip()[:1].isdigit()}
    assert named == {int(each) for each in exits.Exit} - {exits.Exit.BROKEN_PIPE}


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/x", "a//b", "a/", ".", "", "a\0b"])
def test_no_object_is_downloaded_to_another_place(key: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeKey):
        objects.target(tmp_path, key)


def test_no_object_is_downloaded_through_a_link(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    assert objects.target(inside, "folder/x") == inside / "folder" / "x"
    with pytest.raises(UnsafeKey):
        objects.target(inside, "link/x")


def test_files_and_folders_become_keys(tmp_path: Path) -> None:
    (tmp_path / "set" / "deep").mkdir(parents=True)
    for name in ("set/a", "set/deep/b", "c"):
        (tmp_path / name).write_text(name)
    found = objects.keys_of([tmp_path / "set", tmp_path / "c"], "/in/")
    assert {key: file.read_text() for key, file in found} == {
        "in/set/a": "set/a",
        "in/set/deep/b": "set/deep/b",
        "in/c": "c",
    }
    assert [key for key, _ in objects.keys_of([tmp_path / "c"], "")] == ["c"]


def test_two_files_for_one_key_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_text(folder)
    with pytest.raises(Invalid, match="same object"):
        objects.keys_of([tmp_path / "one" / "x", tmp_path / "two" / "x"], "")


def test_sizes_and_durations_for_people() -> None:
    assert [size(count) for count in (0, 999, 53_392, 2_000_000)] == ["0 B", "999 B", "53.4 kB", "2.0 MB"]
    assert [span(seconds) for seconds in (0, 59, 60, 7200, 200_000)] == ["0s", "59s", "1m", "2h", "2d"]


def test_json_and_yaml_hold_the_same() -> None:
    value = {"name": "défi", "list": [1, None, True]}
    assert (
        encoded(value, Format.JSON)
        == '{\n  "name": "défi",\n  "list": [\n    1,\n    null,\n    true\n  ]\n}\n'
    )
    assert encoded(value, Format.YAML) == "name: défi\nlist:\n- 1\n- null\n- true\n"
