"""`jobyard datastore add git`, and what `datastore get` shows of a git store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import ask, complete, words
from service.cli.client import Client, segment
from service.cli.output import Output
from service.errors import Invalid

PASSWORD = "JOBYARD_GIT_PASSWORD"  # noqa: S105 (a variable's name)

Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="What volumes call it.")]
KnownAlias = Annotated[
    str,
    typer.Argument(metavar="ALIAS", help="What volumes call it.", autocompletion=complete.data_stores),
]
Endpoint = Annotated[
    str,
    typer.Argument(metavar="ENDPOINT", help="https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH"),
]
Username = Annotated[str | None, typer.Option("--username", "-u", help="With https; none: public.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password or access token from stdin.")
]
PrivateKey = Annotated[
    Path | None,
    typer.Option("--ssh-private-key", metavar="FILE", help="With ssh; without a passphrase.", dir_okay=False),
]
HostKeys = Annotated[
    list[str] | None,
    typer.Option("--ssh-host-key", metavar="'TYPE BASE64'", help="Else the first that it shows is kept."),
]
Check = Annotated[bool, typer.Option("--check/--no-check", help="Ask the server first.")]


async def add(
    client: Client,
    output: Output,
    alias: Alias,
    endpoint: Endpoint,
    username: Username = None,
    password_stdin: PasswordStdin = False,
    private_key: PrivateKey = None,
    host_keys: HostKeys = None,
    check: Check = True,
) -> None:
    """Adds a data store of git repositories, for volumes that are read.

    The password is asked for, or comes from stdin or from JOBYARD_GIT_PASSWORD. It and a private key are kept
    encrypted and never shown.
    """
    body = _body(alias, endpoint, _keys(username, password_stdin, private_key, host_keys))
    made = await client.post(f"/datastore{'' if check else '?check=false'}", body)
    output.done(f"added {alias}", made)


async def update(
    client: Client,
    output: Output,
    alias: KnownAlias,
    endpoint: Endpoint,
    username: Username = None,
    password_stdin: PasswordStdin = False,
    private_key: PrivateKey = None,
    host_keys: HostKeys = None,
    check: Check = True,
) -> None:
    """Replaces all of a git data store but its alias; its password and key are given as to `add`."""
    body = _body(alias, endpoint, _keys(username, password_stdin, private_key, host_keys))
    path = f"/datastore/{segment(alias)}"
    await client.put(f"{path}{'' if check else '?check=false'}", body)
    output.done(f"changed {alias}", None if output.format is None else await client.get(path))


def shown(found: Any) -> dict[str, str]:
    """What people are shown of a data store beside what all of them have; nothing of one of another type."""
    git = found.get("credentials", {}).get("git", {})
    if "sshKeypair" in git:
        return {"public key": git["sshKeypair"]["publicKey"], "host keys": ", ".join(git["hostKeys"])}
    return {"user and password": "kept"} if "basicAuth" in git else {}


def _body(alias: str, endpoint: str, keys: dict[str, Any]) -> dict[str, Any]:
    return {"alias": alias, "type": "git", "endpoint": endpoint, "credentials": {"git": keys}}


def _keys(
    username: str | None, password_stdin: bool, private_key: Path | None, host_keys: list[str] | None
) -> dict[str, Any]:
    keys: dict[str, Any] = {"hostKeys": host_keys} if host_keys else {}
    if username is not None:
        keys["basicAuth"] = {"username": username, "password": _password(password_stdin)}
    elif password_stdin:
        raise Invalid("--username", None, "--password-stdin gives the password of one")
    if private_key is not None:
        try:
            keys["sshKeypair"] = {"privateKey": private_key.read_text()}
        except (OSError, UnicodeError) as error:
            raise Invalid("--ssh-private-key", str(private_key), f"a file to read ({error})") from None
    return keys


def _password(from_stdin: bool) -> str:
    """Never an argument: those are for everybody on this machine to read."""
    if not from_stdin:
        kept = words.kept_in(PASSWORD)
        otherwise = f"give it with --password-stdin, or in {PASSWORD}"
        return kept or ask.secret("Password or access token", otherwise=otherwise)
    password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not password:
        raise Invalid("--password-stdin", "", "stdin held no password")
    return password
