"""Names that look like others, or have what one cannot see in them, are refused wherever a name comes in."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from service.domain import commands as cmd
from service.domain.display_names import is_plain
from tests.api.yard import ADMIN, SPEC, Yard

#: An override of direction, no width, a soft hyphen, DEL, private, ends of line and paragraph, C1, a tag.
UNSEEN = "\u202e\u200b\u00ad\x7f\ue000\u2028\u2029\x85\U000e0041"

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def named(name: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Everything that is given a name: path, field and body."""
    keys = {"s3": {"accessKey": "k", "secretKey": "s"}}
    return [
        ("/v1/token", "name", {"name": name, "role": ADMIN}),
        ("/v1/project", "name", {"id": "vision", "name": name}),
        ("/v1/datastore", "alias", {"alias": name, "endpoint": "http://127.0.0.1:1", "credentials": keys}),
        (
            "/v1/registry?check=false",
            "username",
            {"url": "registry.example.org", "username": name, "password": "p"},
        ),
        ("/v1/webhook?check=false", "description", {"url": "https://example.org/", "description": name}),
        ("/v1/job", "name", SPEC | {"name": name}),
        ("/v1/job", "readUser", SPEC | {"readUser": name}),
        ("/v1/job", "sshPublicKeys[0]", SPEC | {"sshPublicKeys": [f"{ED25519} {name}"]}),
    ]


@pytest.mark.parametrize("char", UNSEEN, ids=[f"U+{ord(char):04X}" for char in UNSEEN])
async def test_what_one_cannot_see_is_in_no_name(yard: Yard, char: str) -> None:
    before = await yard.head()
    for path, field, body in named(f"ad{char}min"):
        answer = await yard.call("POST", path, body, token=ADMIN)
        assert (answer.status, answer.json["field"]) == (400, field), (path, answer.raw)
        assert answer.json["message"].startswith(f"{field}: ") and char not in answer.json["message"]
    assert await yard.head() == before


async def test_a_name_is_in_any_script(yard: Yard) -> None:
    for name in ("José Ángel (CI)", "李 雷", "عمر", "a\u00a0b", "🚀 deploy", "x" * 255):
        made = await yard.call("POST", "/v1/token", {"name": name, "role": ADMIN}, token=ADMIN)
        assert (made.status, made.json["spec"]["name"]) == (200, name), made.raw
    for path, body in (("/v1/token", {"role": ADMIN}), ("/v1/project", {"id": "vision"})):
        answer = await yard.call("POST", path, body | {"name": "x" * 256}, token=ADMIN)
        assert (answer.status, answer.json["field"]) == (400, "name")
        assert "1 to 255 characters" in answer.json["message"]


@pytest.mark.parametrize("name", [" ", "\u00a0\u00a0", " \u2003\u3000"])
async def test_a_name_is_not_blank(yard: Yard, name: str) -> None:
    for path, body in (("/v1/token", {"role": ADMIN}), ("/v1/project", {"id": "vision"})):
        answer = await yard.call("POST", path, body | {"name": name}, token=ADMIN)
        assert (answer.status, answer.json["field"]) == (400, "name")
        assert "it is blank" in answer.json["message"]


async def test_a_name_of_before_is_read_as_it_is(yard: Yard) -> None:
    for number, char in enumerate(UNSEEN[:3]):
        made = cmd.CreateToken(
            project="default",
            token_id=f"00000000-0000-4000-8000-{number:012}",
            name=f"ad{char}min",
            role=ADMIN,
            sha256=f"{number:064}",
        )
        await yard.ledger.submit(made, actor="test")
    listed = (await yard.call("GET", "/v1/token", token=ADMIN)).json["items"]
    assert {f"ad{char}min" for char in UNSEEN[:3]} <= {each["spec"]["name"] for each in listed}


def test_the_rule_goes_by_what_a_character_is() -> None:
    barred = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
    for code in range(0x110000):
        if is_plain(chr(code)) is (unicodedata.category(chr(code)) in barred):
            raise AssertionError(hex(code))
