"""What `--ssh-public-keys` takes, and what it never sends."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from service.cli import ssh_keys
from service.errors import Invalid


def public(kind: str = "ssh-ed25519", comment: str = " ann@home") -> str:
    blob = len(kind).to_bytes(4, "big") + kind.encode() + b"\0\0\0\x20" + bytes(32)
    return f"{kind} {base64.b64encode(blob).decode()}{comment}"


PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2hunter2\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "kind",
    ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com"],
)
def test_a_keys_own_text(kind: str) -> None:
    for text in (public(kind), public(kind, "")):
        assert ssh_keys.read([f" {text}\n"]) == [text]


def test_a_file_of_keys_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = public(), public("ssh-rsa", "")
    (tmp_path / "keys.pub").write_text(f"# mine\n\n{one}\r\n{other}\n{one}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ssh_keys.read(["~/keys.pub", other]) == [one, other]


@pytest.mark.parametrize(
    "held", [PRIVATE, "PuTTY-User-Key-File-3: ssh-ed25519\nhunter2", f"{public()}\n{PRIVATE}"]
)
def test_a_private_key_stays_here(tmp_path: Path, held: str) -> None:
    file = tmp_path / "id_ed25519"
    file.write_text(held)
    with pytest.raises(Invalid, match="private key") as refusal:
        ssh_keys.read([str(file)])
    assert "hunter2" not in refusal.value.message
    file.with_name("id_ed25519.pub").write_text(public())
    with pytest.raises(Invalid, match=r"give .*/id_ed25519\.pub"):
        ssh_keys.read([str(file)])
    with pytest.raises(Invalid, match="private key") as refusal:
        ssh_keys.read([held])
    assert "hunter2" not in refusal.value.message


@pytest.mark.parametrize(
    "held",
    [
        b"",
        b"root:x:0:0:hunter2\n",
        b"\xff\xfe\0",
        b"x" * (ssh_keys.MOST_BYTES + 1),
        b"ssh-ed25519 AAAA hunter2",
    ],
)
def test_a_file_of_anything_else_is_not_sent(tmp_path: Path, held: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(held)
    with pytest.raises(Invalid) as refusal:
        ssh_keys.read([str(file)])
    assert refusal.value.field == "--ssh-public-keys"
    assert "hunter2" not in refusal.value.message


@pytest.mark.parametrize(
    "text", ["", "no-such-file", "ssh-ed25519 AAAA", "ssh-ed25519", "/", "a\0b", "~nobody-here/x"]
)
def test_what_is_neither_a_file_nor_a_key(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        ssh_keys.read([text])
    assert refusal.value.field == "--ssh-public-keys"


def test_a_blob_of_another_kind_is_no_key() -> None:
    assert not ssh_keys.is_key(public().replace("ssh-ed25519", "ssh-rsa", 1))
    assert not ssh_keys.is_key(public() + "\n" + public())
