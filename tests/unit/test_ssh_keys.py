"""Public keys as `ssh-keygen` writes them: which are taken, and what is said of the others."""

from __future__ import annotations

import base64
import string
from typing import Any

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.ssh_keys import KINDS, MAX_KEYS, read_key, read_keys
from service.errors import Invalid


def field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def line(kind: str, *fields: bytes, says: str | None = None, more: bytes = b"") -> str:
    blob = b"".join(map(field, (kind.encode(), *fields))) + more
    return f"{says or kind} {base64.b64encode(blob).decode()}"


def rsa(modulus: int, exponent: int = 65537) -> str:
    def number(value: int) -> bytes:
        return value.to_bytes(value.bit_length() // 8 + 1, "big")

    return line("ssh-rsa", number(exponent), number(modulus))


def real(algorithm: str, **how: Any) -> str:
    key = asyncssh.generate_private_key(algorithm, comment="ada@example.org", **how)
    return key.export_public_key().decode()


ED25519 = real("ssh-ed25519")
POINT = asyncssh.generate_private_key("ecdsa-sha2-nistp256").public_data[-65:]
HARDWARE = [
    line("sk-ssh-ed25519@openssh.com", b"k" * 32, b"ssh:"),
    line("sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", POINT, b"ssh:"),
]
CURVES = [f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)]
MODULUS = (1 << 2047) + 1


@pytest.mark.parametrize(
    "text",
    [ED25519, *map(real, CURVES), real("ssh-rsa", key_size=2048), *HARDWARE],
    ids=lambda text: text.split(" ")[0],
)
def test_keys_that_are_taken_are_those_that_openssh_means(text: str) -> None:
    key = read_key("k", text)
    theirs = asyncssh.import_public_key(text)
    assert (key.blob, key.fingerprint) == (theirs.public_data, theirs.get_fingerprint())
    assert read_key("k", str(key)) == key
    assert key.comment == ("ada@example.org" if "ada" in text else "")


def test_every_kind_that_is_named_was_tried() -> None:
    assert {ED25519.split()[0], "ssh-rsa", *CURVES, *(text.split()[0] for text in HARDWARE)} == set(KINDS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("   ", "it is empty"),
        ("ssh-ed25519", "nothing follows the kind"),
        ("ssh-ed25519 !!!!", "no base64"),
        ("ssh-ed25519 AAAA", "cut off"),
        ("hello", "its kind is not taken"),
        (f'command="x" {ED25519}', "options before a key"),
        (f"no-pty {ED25519}", "options before a key"),
        (f"{ED25519}{ED25519}", "one line"),
        (ED25519.strip() + "\0", "one line"),
        (ED25519.strip() + "\x1b[2J", "one line"),
        (ED25519.strip() + " " + "c" * 9000, "at most 8192 characters"),
        ("ssh-dss AAAA", "DSA keys are too weak"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "certificates are not taken"),
        (line("ssh-rsa", b"\1", says="ssh-ed25519"), "another kind"),
        (line("ssh-ed25519", b"k" * 31), "32 bytes"),
        (line("ssh-ed25519", b"k" * 32, more=b"x"), "something follows"),
        (line("ssh-ed25519", b"k" * 32, b""), "something follows"),
        (line("ecdsa-sha2-nistp256", b"nistp384", b"\4" + b"k" * 64), "its curve"),
        (line("ecdsa-sha2-nistp256", b"nistp256", b"\2" + b"k" * 64), "its point"),
        (line("ecdsa-sha2-nistp384", b"nistp384", b"\4" + b"k" * 64), "its point"),
        (line("sk-ssh-ed25519@openssh.com", b"k" * 32, b""), "its application is empty"),
        (line("sk-ssh-ed25519@openssh.com", b"k" * 32), "cut off in its application"),
        (rsa(1 << 1023 | 1), "2048 to 16384 bits, this one 1024"),
        (rsa(1 << 2046 | 1), "this one 2047"),
        (rsa(1 << 16384 | 1), "this one 16385"),
        (rsa(MODULUS - 1), "none of an RSA key"),
        (rsa(MODULUS, 1), "none of an RSA key"),
        (rsa(MODULUS, 4), "none of an RSA key"),
        (line("ssh-rsa", b"\0\3", MODULUS.to_bytes(257, "big")), "shortest form"),
        (line("ssh-rsa", b"\3", b"\x80" + b"\1" * 255), "no positive number"),
        (line("ssh-rsa", b"", b""), "no positive number"),
    ],
    ids=lambda text: text.split(" ")[0][:12],  # the rest is another each time
)
def test_keys_that_are_not(text: str, why: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_keys([ED25519, text])
    assert refused.value.field == "sshPublicKeys[1]"
    assert why in refused.value.message


def test_a_private_key_is_not_shown_again() -> None:
    text = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    with pytest.raises(Invalid, match="take another one") as refused:
        read_keys([text])
    assert text[40:60] not in refused.value.message


def test_as_many_as_there_may_be() -> None:
    assert len(read_keys([ED25519] * MAX_KEYS)) == MAX_KEYS
    with pytest.raises(Invalid, match=f"at most {MAX_KEYS}"):
        read_keys([ED25519] * (MAX_KEYS + 1))


@given(st.binary(max_size=100), st.sampled_from(KINDS))
def test_what_is_taken_is_written_as_it_was_read(noise: bytes, kind: str) -> None:
    text = f"{kind} {base64.b64encode(field(kind.encode()) + noise).decode()}"
    try:
        key = read_key("k", text)
    except Invalid:
        return
    assert str(key) == text


@given(st.data())
def test_no_byte_can_be_changed_added_or_left_out_unseen(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([ED25519.split(" ada")[0].strip(), *HARDWARE]))
    key = read_key("k", text)
    at = data.draw(st.integers(0, len(key.blob)))
    cut = data.draw(st.integers(0, 1)) if at < len(key.blob) else 0
    blob = key.blob[:at] + data.draw(st.binary(max_size=2)) + key.blob[at + cut :]
    changed = f"{key.kind} {base64.b64encode(blob).decode()}"
    try:
        found = read_key("k", changed)
    except Invalid:
        return
    assert found.blob == blob and (found.blob == key.blob) == (blob == key.blob)


@given(st.text(string.printable, max_size=200) | st.text(max_size=50))
def test_no_text_breaks_it(text: str) -> None:
    for given_text in (text, f"ssh-ed25519 {text}", ED25519.strip() + text):
        try:
            assert str(read_key("k", given_text)).isprintable()
        except Invalid as refused:
            assert refused.field == "k"
