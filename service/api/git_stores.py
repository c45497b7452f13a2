"""Data stores of type git: their credentials read, tried at the server, sealed; and what is told of them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPrivateNumbers
from msgspec import UNSET

from service.api import wire
from service.api.call import Call
from service.api.errors import Said
from service.domain.gitstores import (
    BasicLogin,
    GitEndpoint,
    GitKeys,
    GitLogin,
    SshLogin,
    read_git_endpoint,
    require_login,
)
from service.errors import FetchDenied, FetchRefused, HostKeyRefused, Invalid
from service.outward import names

MOST_USERNAME_CHARS = 255
MOST_PASSWORD_CHARS = 4096
MOST_KEY_CHARS = 16_384
MOST_HOST_KEYS = 16
#: ssh itself reads no larger one.
MOST_RSA_BITS = 16_384

_KEY_LINE = re.compile(r"\A([a-z0-9@.-]{4,64}) ([A-Za-z0-9+/]{32,4096}={0,2})(?: [^\n\r]*)?\Z")
_KINDS = (Ed25519PrivateKey, EllipticCurvePrivateKey, RSAPrivateKey)
_WITHOUT = "?check=false takes it without asking"
_FIELDS = ("basicAuth", "sshKeypair")
_GIT = "credentials.git"


async def keys_of(call: Call, endpoint: str, asked: wire.CredentialsAsked | None, *, check: bool) -> GitKeys:
    """The keys of a git store, sealed. Raises `Invalid`, or `Unavailable` when the server was asked."""
    if asked is not None and asked.s3 is not None:
        said = Said("they are not of the type git")
        raise Invalid("credentials", said, "a data store of type git has credentials.git or none")
    at = read_git_endpoint("endpoint", endpoint)
    login, public_key = await _login(at, asked)
    if check:
        login = await _tried(call, at, login)
    sealing = await call.ledger.keys.of(call.project)
    match login:
        case BasicLogin():
            pair = msgspec.json.encode([login.username, login.password]).decode()
            keys = GitKeys(basic=sealing.seal(pair))
        case SshLogin():
            sealed = sealing.seal(login.private_key)
            keys = GitKeys(private_key=sealed, public_key=public_key, host_keys=login.host_keys)
        case None:
            keys = GitKeys()
    require_login(at, keys)
    return keys


def told(keys: GitKeys) -> wire.GitKeys:
    """What is no secret."""
    return wire.GitKeys(
        basic_auth=wire.BasicAuth() if keys.basic else UNSET,
        ssh_keypair=wire.SshKeypair(public_key=keys.public_key) if keys.public_key else UNSET,
        host_keys=list(keys.host_keys) or UNSET,
    )


async def _login(at: GitEndpoint, asked: wire.CredentialsAsked | None) -> tuple[GitLogin | None, str | None]:
    """The login, and the public key of one with ssh. Raises `Invalid`."""
    keys = (asked.git if asked else None) or wire.GitKeysAsked()
    given = [name for name, one in zip(_FIELDS, (keys.basic_auth, keys.ssh_keypair), strict=True) if one]
    if len(given) > 1:
        raise Invalid(_GIT, Said("basicAuth and sshKeypair were sent"), "one of them, or none")
    if at.scheme == "ssh":
        if keys.ssh_keypair is None:
            raise Invalid(
                f"{_GIT}.sshKeypair", None, "an endpoint with ssh needs a key pair, and takes no other"
            )
        private_key, public_key = await asyncio.to_thread(_key_pair, keys.ssh_keypair)
        return SshLogin(private_key, _host_keys(keys.host_keys or [])), public_key
    if keys.ssh_keypair is not None or keys.host_keys:
        field = "sshKeypair" if keys.ssh_keypair is not None else "hostKeys"
        raise Invalid(f"{_GIT}.{field}", Said("the endpoint has https"), "it takes basicAuth, or none")
    return _basic(keys.basic_auth), None


def _basic(asked: wire.BasicAuthAsked | None) -> BasicLogin | None:
    if asked is None:
        return None
    for field, text, most, without in (
        ("username", asked.username, MOST_USERNAME_CHARS, ":"),
        ("password", asked.password, MOST_PASSWORD_CHARS, ""),
    ):
        if not 1 <= len(text) <= most or not text.isprintable() or any(char in without for char in text):
            allowed = f"1 to {most} printable characters{' without a colon' if without else ''}"
            said = Said("it is empty, too long, or holds what it may not")
            raise Invalid(f"{_GIT}.basicAuth.{field}", said, allowed)
    return BasicLogin(asked.username, asked.password)


def _key_pair(asked: wire.SshKeypairAsked) -> tuple[str, str]:
    """The private key in OpenSSH's own form, and the public one."""
    field = f"{_GIT}.sshKeypair.privateKey"
    allowed = "a private key of OpenSSH's or PEM form, without a passphrase: Ed25519, ECDSA or RSA"
    text = asked.private_key.replace("\r\n", "\n").strip().encode("utf-8", "replace") + b"\n"
    if len(asked.private_key) > MOST_KEY_CHARS:
        raise Invalid(field, Said("it is too long"), f"at most {MOST_KEY_CHARS} characters")
    read = form.load_ssh_private_key if b"OPENSSH" in text[:64] else form.load_pem_private_key
    try:
        # Unsafe is a wrong key's use, and here it is but written anew. To test whether its primes are such
        # takes a large one's minutes, in which nothing else of this process runs.
        key = read(text, password=None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(key, _KINDS):
            raise ValueError("of a kind that ssh does not take")
        if isinstance(key, RSAPrivateKey) and not _agree(key.private_numbers()):
            raise ValueError("of numbers that are not of one key")
        private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
        public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()
    except TypeError:
        raise Invalid(field, Said("it is protected by a passphrase"), allowed) from None
    except (ValueError, UnsupportedAlgorithm):
        # Not chained: what the library says may repeat what it was given.
        raise Invalid(field, Said("it cannot be read"), allowed) from None
    if asked.public_key and asked.public_key.split()[:2] != public.split()[:2]:
        said = Said("it is not that of the private key")
        raise Invalid(f"{_GIT}.sshKeypair.publicKey", said, "leave it out: it follows from the private key")
    return private.decode(), public


def _agree(of: RSAPrivateNumbers) -> bool:
    """Whether the numbers of an RSA key are of one key, but for whether its primes are such."""
    whole = of.public_numbers
    if whole.n.bit_length() > MOST_RSA_BITS or of.p * of.q != whole.n or min(of.p, of.q) < 3:
        return False
    return all(of.d * whole.e % (each - 1) == 1 for each in (of.p, of.q))


def _host_keys(asked: list[str]) -> tuple[str, ...]:
    field = f"{_GIT}.hostKeys"
    if len(asked) > MOST_HOST_KEYS:
        raise Invalid(field, f"{len(asked)} keys", f"at most {MOST_HOST_KEYS}")
    found = []
    for index, line in enumerate(asked):
        match = _KEY_LINE.match(line.strip())
        if match is None or not _is_key(match[1], match[2]):
            raise Invalid(f"{field}[{index}]", line, "TYPE BASE64, such as ssh-ed25519 AAAA…")
        found.append(f"{match[1]} {match[2]}")
    return tuple(dict.fromkeys(found))


def _is_key(kind: str, text: str) -> bool:
    """Whether a public key's bytes begin with its type."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    return data.startswith(len(kind).to_bytes(4, "big") + kind.encode())


async def _tried(call: Call, at: GitEndpoint, login: GitLogin | None) -> GitLogin | None:
    """Ask the server; of one with ssh, remember the key that it showed. Raises `Invalid` or `Unavailable`."""
    try:
        with names.asked_by(call.project):
            host_keys = await call.service.parts.stores.ask_git(at, login)
    except HostKeyRefused as error:
        allowed = "those that the server has, or none to take the one that it shows"
        raise Invalid(f"{_GIT}.hostKeys", Said(error.message), allowed) from None
    except FetchDenied as error:
        field = "sshKeypair" if isinstance(login, SshLogin) else "basicAuth"
        raise Invalid(f"{_GIT}.{field}", Said(error.message), _WITHOUT) from None
    except FetchRefused as error:
        raise Invalid("endpoint", Said(error.message), _WITHOUT) from None
    if isinstance(login, SshLogin) and not login.host_keys:
        return SshLogin(login.private_key, host_keys)
    return login
