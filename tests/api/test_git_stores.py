"""Data stores of type git through the API: taken when their server agrees, answered without a secret."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.api.yard import OPERATOR, READER, SPEC, Yard, furnish, opened
from tests.support.https import Site, a_site
from tests.support.sshd import Sshd, an_sshd, key_pair

HOME = "127.0.0.1"
PASSWORD = "s3cret-of-the-store"
BASIC = {"basicAuth": {"username": "ada-of-hub", "password": PASSWORD}}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    with a_site(tmp_path / "site") as made:
        made.login = ("ada-of-hub", PASSWORD)
        yield made


@pytest.fixture
async def sshd(tmp_path: Path, site: Site) -> AsyncIterator[Sshd]:
    (tmp_path / "sshd").mkdir()
    async with an_sshd(tmp_path / "sshd", site.repositories) as made:
        yield made


@pytest.fixture
async def yard(database: str, tmp_path: Path, site: Site) -> AsyncIterator[Yard]:
    """One that may fetch from home."""
    reach: dict[str, Any] = {"fetch_allow": ("127.0.0.0/8",), "fetch_ca": site.ca}
    async with opened(database, tmp_path, {}, **reach) as made:
        await furnish(made.ledger)
        for role in (OPERATOR, READER):
            await made.token(role, role)
        yield made


def https(site: Site, git: Any = BASIC, **changed: Any) -> dict[str, Any]:
    body = {"alias": "hub", "type": "git", "endpoint": site.url("/private", HOME)}
    return body | ({"credentials": {"git": git}} if git is not None else {}) | changed


def ssh(sshd: Sshd, **changed: Any) -> dict[str, Any]:
    pair = {"sshKeypair": {"privateKey": sshd.client.private, "publicKey": sshd.client.public}}
    credentials = {"git": pair | changed.pop("git", {})}
    body = {"alias": "deep", "type": "git", "endpoint": sshd.endpoint, "credentials": credentials}
    return body | changed


async def written(yard: Yard) -> str:
    """Everything that the ledger holds, as text."""
    connection = await asyncpg.connect(yard.database, server_settings={"search_path": "jobyard"})
    try:
        rows = [
            *await connection.fetch("SELECT data::text FROM events"),
            *await connection.fetch("SELECT row::text FROM folds"),
        ]
        return "\n".join(row[0] for row in rows)
    finally:
        await connection.close()


async def test_one_with_a_password(yard: Yard, site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    wrong = {"basicAuth": {"username": "ada-of-hub", "password": "wr0ng-one"}}
    refused = await yard.call("POST", "/v1/datastore", https(site, wrong))
    assert (refused.status, refused.json["field"]) == (400, "credentials.git.basicAuth"), refused.raw
    assert "the user and this password were refused" in refused.json["message"]
    made = await yard.call("POST", "/v1/datastore", https(site))
    assert made.status == 200, made.raw
    assert made.json["type"] == "git"
    assert made.json["credentials"] == {"git": {"basicAuth": {}}}
    shown = await yard.call("GET", "/v1/datastore/hub", token=READER)
    listed = await yard.call("GET", "/v1/datastore", token=READER)
    assert shown.json == made.json == listed.json["items"][0]
    seen = "".join(capfd.readouterr()) + await written(yard)
    for answer in (refused, made, shown, listed):
        seen += answer.raw.decode()
    for secret in (PASSWORD, "wr0ng-one", "ada-of-hub"):
        assert secret not in seen
    again = await yard.call("POST", "/v1/datastore", https(site))
    assert again.status == 409
    assert (await yard.call("PUT", "/v1/datastore/hub", https(site, wrong))).status == 400
    assert (await yard.call("PUT", "/v1/datastore/hub?check=false", https(site, wrong))).status == 204
    assert (await yard.call("PUT", "/v1/datastore/hub", https(site, None))).status == 204
    assert (await yard.call("GET", "/v1/datastore/hub")).json["credentials"] == {"git": {}}
    assert (await yard.call("DELETE", "/v1/datastore/hub")).status == 204


async def test_one_with_a_key_pair_remembers_its_server(
    yard: Yard, sshd: Sshd, capfd: pytest.CaptureFixture[str]
) -> None:
    made = await yard.call("POST", "/v1/datastore", ssh(sshd))
    assert made.status == 200, made.raw
    told = {"sshKeypair": {"publicKey": sshd.client.public}, "hostKeys": [sshd.host.public]}
    assert made.json["credentials"] == {"git": told}
    assert (await yard.call("GET", "/v1/datastore/deep")).json == made.json
    seen = "".join(capfd.readouterr()) + await written(yard) + made.raw.decode()
    assert not [line for line in sshd.client.private.splitlines()[1:-1] if line in seen]
    first = sshd.host.public
    await sshd.change_host_key()
    pinned = ssh(sshd, git={"hostKeys": [f"{first} its comment"]})
    refused = await yard.call("PUT", "/v1/datastore/deep", pinned)
    assert (refused.status, refused.json["field"]) == (400, "credentials.git.hostKeys"), refused.raw
    assert (await yard.call("PUT", "/v1/datastore/deep", ssh(sshd))).status == 204
    assert (await yard.call("GET", "/v1/datastore/deep")).json["credentials"]["git"]["hostKeys"] == [
        sshd.host.public
    ]
    stranger = {"sshKeypair": {"privateKey": key_pair().private}}
    denied = await yard.call("PUT", "/v1/datastore/deep", ssh(sshd, git=stranger))
    assert (denied.status, denied.json["field"]) == (400, "credentials.git.sshKeypair"), denied.raw
    unasked = ssh(sshd, alias="unasked")
    nothing = await yard.call("POST", "/v1/datastore?check=false", unasked)
    assert (nothing.status, nothing.json["field"]) == (400, "credentials.git.hostKeys")
    unasked["credentials"]["git"]["hostKeys"] = [first]
    assert (await yard.call("POST", "/v1/datastore?check=false", unasked)).status == 200


async def test_keys_of_all_kinds_and_forms_are_taken(yard: Yard, sshd: Sshd) -> None:
    pem = (form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    old = (form.Encoding.PEM, form.PrivateFormat.TraditionalOpenSSL, form.NoEncryption())
    key = rsa.generate_private_key(65537, 2048)
    for number, text in enumerate((key.private_bytes(*pem), key.private_bytes(*old))):
        git = {
            "sshKeypair": {"privateKey": text.decode().replace("\n", "\r\n")},
            "hostKeys": [sshd.host.public],
        }
        body = ssh(sshd, alias=f"rsa{number}", git=git)
        made = await yard.call("POST", "/v1/datastore?check=false", body)
        assert made.status == 200, made.raw
        assert made.json["credentials"]["git"]["sshKeypair"]["publicKey"].startswith("ssh-rsa ")


def a_key_of_no_primes(*, d: int | None = None) -> str:
    """An RSA key whose numbers agree, unless `d` is given; each of its primes is a product of two."""
    parts = [rsa.generate_private_key(65537, 1024).private_numbers() for _ in range(2)]
    p, q = (each.public_numbers.n for each in parts)
    d = pow(65537, -1, math.lcm(p - 1, q - 1)) if d is None else d
    numbers = rsa.RSAPrivateNumbers(
        *(p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)),
        rsa.RSAPublicNumbers(65537, p * q),
    )
    key = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    old = (form.Encoding.PEM, form.PrivateFormat.TraditionalOpenSSL, form.NoEncryption())
    return key.private_bytes(*old).decode()


async def test_nobody_waits_while_a_keys_primes_are_tested(yard: Yard, sshd: Sshd) -> None:
    """It would take a key of 16,000 bits minutes, without a break. The server does not take such a key."""
    git = {"sshKeypair": {"privateKey": a_key_of_no_primes()}, "hostKeys": [sshd.host.public]}
    made = await yard.call("POST", "/v1/datastore?check=false", ssh(sshd, git=git))
    assert made.status == 200, made.raw
    git["sshKeypair"] = {"privateKey": a_key_of_no_primes(d=65539)}
    refused = await yard.call("POST", "/v1/datastore?check=false", ssh(sshd, alias="other", git=git))
    assert (refused.status, refused.json["field"]) == (400, "credentials.git.sshKeypair.privateKey")


#: By ssh-keygen, with the passphrase `passphrase`; of no use to anybody.
LOCKED = """-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABBSxbM0ay
gmvcoM8ReAdS9xAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIDBIGpzyBEw/qunv
Nr4XHMfcIwFSZcwbEU3QJNvveu3HAAAAkMGVcapbisJ4OwZ9Gf1SsiiBvdnMtsaEPQV1mv
QDsCKlcfRyu8jGOGAvB4/KyBOwJUhU6R+DZOvP2j+Q9+KB0fdd57Mf7jC5RB/kJ6crD7Iw
rILW13vYFKu9Px67qHGhlRjduhPSjey4BEJaGsjmPmo7kHCIwIdqywFQq56l/uG/IxGb8T
3deJm3lPVxVE/U8w==
-----END OPENSSH PRIVATE KEY-----
"""


def bad() -> Iterator[tuple[Any, str]]:
    """What is changed of a good body, and the field that the answer names."""
    pair = key_pair()
    locked = (form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"x"))
    locked_pem = Ed25519PrivateKey.generate().private_bytes(*locked).decode()
    pkcs8 = (form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    of_no_use = x25519.X25519PrivateKey.generate().private_bytes(*pkcs8).decode()
    ssh_at = {"endpoint": f"ssh://git@{HOME}"}

    def keys(**git: Any) -> dict[str, Any]:
        return {"credentials": {"git": git}}

    def private(text: Any, **more: Any) -> dict[str, Any]:
        return ssh_at | keys(sshKeypair={"privateKey": text} | more)

    for endpoint in (None, 1, "", "http://h", "ssh://u:p@h", "https://u:p@h", "https://h/../x", "x" * 3000):
        yield {"endpoint": endpoint}, "endpoint"
    for kind in (None, "ftp", 1):
        yield {"type": kind}, "type"
    yield {"alias": "a/b"}, "alias"
    yield {"owner": "me"}, "owner"
    yield {"credentials": 1}, "credentials"
    yield {"credentials": {"s3": {"accessKey": "a", "secretKey": "b"}}}, "credentials"
    yield {"type": "s3"}, "credentials"
    yield {"type": "s3", "credentials": None}, "credentials"
    yield keys(token="x"), "credentials.git.token"
    yield keys(basicAuth={"username": "a"}), "credentials.git.basicAuth.password"
    for name in ("", "a:b", "a\n", "x" * 256):
        yield keys(basicAuth={"username": name, "password": "p"}), "credentials.git.basicAuth.username"
    for password in ("", "p\n", "p\0", "x" * 4097):
        yield keys(basicAuth={"username": "a", "password": password}), "credentials.git.basicAuth.password"
    both = {"basicAuth": {"username": "a", "password": "p"}, "sshKeypair": {"privateKey": pair.private}}
    yield keys(**both), "credentials.git"
    yield keys(sshKeypair={"privateKey": pair.private}), "credentials.git.sshKeypair"
    yield keys(hostKeys=[pair.public]), "credentials.git.hostKeys"
    yield ssh_at | keys(), "credentials.git.sshKeypair"
    yield ssh_at | {"credentials": None}, "credentials.git.sshKeypair"
    yield ssh_at | keys(basicAuth={"username": "a", "password": "p"}), "credentials.git.sshKeypair"
    for text in (
        "",
        "x",
        pair.public,
        LOCKED,
        locked_pem,
        of_no_use,
        pair.private[:200],
        "é" * 99,
        "x" * 20_000,
        "\0",
        "\ud7ff",
    ):
        yield private(text), "credentials.git.sshKeypair.privateKey"
    other = key_pair().public
    yield private(pair.private, publicKey=other), "credentials.git.sshKeypair.publicKey"
    for line in ("", "x", "ssh-ed25519", f"ssh-rsa {other.split()[1]}", f"* {other}", f"{other}\n{other}"):
        wrong = keys(sshKeypair={"privateKey": pair.private}, hostKeys=[line])
        yield ssh_at | wrong, "credentials.git.hostKeys[0]"
    yield (
        ssh_at | keys(sshKeypair={"privateKey": pair.private}, hostKeys=[other] * 17),
        "credentials.git.hostKeys",
    )


async def test_bad_input_names_the_field_and_repeats_no_secret(yard: Yard, site: Site) -> None:
    for changed, field in bad():
        body = https(site) | changed
        for method, path in (("POST", "/v1/datastore"), ("POST", "/v1/datastore?check=false")):
            answer = await yard.call(method, path, body)
            assert (answer.status, answer.json.get("field")) == (400, field), (changed, answer.raw)
            assert answer.json["message"].startswith(f"{field}: ")
            assert PASSWORD not in answer.raw.decode()
            assert "u:p" not in answer.json["message"]
    assert site.asked == []
    assert (await yard.call("GET", "/v1/datastore")).json["items"] == []


async def test_addresses_that_may_not_be_used(database: str, tmp_path: Path, site: Site, sshd: Sshd) -> None:
    (tmp_path / "strict").mkdir()
    async with opened(database, tmp_path / "strict", {}, fetch_ca=site.ca) as yard:
        await furnish(yard.ledger)
        await yard.token(OPERATOR, OPERATOR)
        before = sshd.log().count("Connection from")
        for body in (https(site), ssh(sshd), https(site, endpoint="https://169.254.169.254")):
            answer = await yard.call("POST", "/v1/datastore", body)
            assert (answer.status, answer.json["field"]) == (400, "endpoint"), answer.raw
            assert "not a public one" in answer.json["message"]
        assert site.asked == []
        assert sshd.log().count("Connection from") == before


async def test_a_server_that_is_down_is_said_to_be_unavailable(yard: Yard, sshd: Sshd) -> None:
    sshd.stop()
    answer = await yard.call("POST", "/v1/datastore", ssh(sshd))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_what_asks_for_objects_is_told_that_there_are_none(yard: Yard, site: Site) -> None:
    assert (await yard.call("POST", "/v1/datastore?check=false", https(site))).status == 200
    objects = "/v1/datastore/hub/container/abc/object"
    for method, path in (
        ("GET", objects),
        ("GET", f"{objects}/k"),
        ("PUT", f"{objects}/k"),
        ("DELETE", f"{objects}/k"),
    ):
        answer = await yard.call(method, path, data=b"x" if method == "PUT" else None)
        assert (answer.status, answer.json["field"]) == (400, "alias"), (method, answer.raw)
        assert "only stores of type s3 hold objects" in answer.json["message"]


def of(container: str = "team/r.git#v1", alias: str = "hub", **more: Any) -> dict[str, Any]:
    return {"alias": alias, "container": container} | more


async def test_volumes_of_it_in_every_operation_that_takes_one(yard: Yard, site: Site) -> None:
    assert (await yard.call("POST", "/v1/datastore?check=false", https(site))).status == 200
    good = {"mountPath": "/d", "permission": "RO", "dataStore": of(prefix="src/")}
    job = await yard.submit(volumes=[good])
    assert job["spec"]["volumes"][0]["dataStore"] == of(prefix="src/")
    again = await yard.submit(volumes=job["spec"]["volumes"])
    assert again["spec"]["volumes"] == job["spec"]["volumes"]
    older = {"mountPath": "/d", "privateSwift": {"container": "a/b", "region": "hub"}}
    assert (await yard.submit(volumes=[older]))["spec"]["volumes"][0]["dataStore"] == of("a/b")
    command = await yard.call("POST", "/v1/job/command", SPEC | {"volumes": [good]})
    assert "--volume 'team/r.git#v1@hub/src/:/d:ro'" in command.json["command"]
    for changed, field in (
        ({"permission": "RWD"}, "volumes[0].permission"),
        ({"cache": True}, "volumes[0].cache"),
        ({"dataStore": of(archive="a.tar")}, "volumes[0].dataStore.archive"),
        ({"dataStore": of("a/../b")}, "volumes[0].dataStore.container"),
        ({"dataStore": of("r#a b")}, "volumes[0].dataStore.container"),
        ({"permission": "RW", "targetDataStore": of()}, "volumes[0].targetDataStore.alias"),
    ):
        answer = await yard.call("POST", "/v1/job", SPEC | {"volumes": [good | changed]})
        assert (answer.status, answer.json["field"]) == (400, field), answer.raw
    made = await yard.call("POST", "/v1/volume", {"dataStore": of()})
    assert (made.status, made.json["cache"], made.json["dataStore"]) == (200, False, of()), made.raw
    named = await yard.submit(volumes=[{"mountPath": "/d", "userVolumeId": made.json["id"]}])
    assert named["spec"]["volumes"][0]["userVolumeId"] == made.json["id"]
    for body, field in (
        ({"dataStore": of(), "cache": True}, "cache"),
        ({"dataStore": of(archive="a.tar")}, "dataStore.archive"),
        ({"dataStore": of("-x")}, "dataStore.container"),
    ):
        answer = await yard.call("POST", "/v1/volume", body)
        assert (answer.status, answer.json["field"]) == (400, field), answer.raw
    listed = json.dumps((await yard.call("GET", "/v1/volume")).json)
    assert listed.count("team/r.git") == 1
