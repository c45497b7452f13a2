"""A project's registries: one a host, and credentials that stay with theirs."""

from __future__ import annotations

from typing import Any

import pytest

from projections.projects import FOLD
from service.api.registry_check import _challenge
from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.decide_registry import MOST_REGISTRIES
from service.domain.images import parse_image
from service.domain.registries import (
    canonical_host,
    check_shared,
    is_of_project,
    read_registry_url,
    repository,
)
from service.domain.spec import Sealed
from service.errors import Conflict, Invalid, NotFound, QuotaExceeded
from tests.support.jobs import PROJECT, SEALED
from tests.support.specification import bare, folded, given

OTHER = Sealed("key-1", "bm9uY2U=", "b3RoZXI=")
HOST = "registry.example.org:5000"


def attach(**changed: Any) -> cmd.SetRegistry:
    fields: dict[str, Any] = {
        "project": PROJECT,
        "registry_id": "r1",
        "user": "ann",
        "url": f"https://{HOST}",
        "username": "robot",
        "password": SEALED,
    }
    return cmd.SetRegistry(**(fields | changed))


def change(**changed: Any) -> cmd.SetRegistry:
    """A change of what is given, and of nothing else."""
    return cmd.SetRegistry(project=PROJECT, registry_id="r1", user="bob", replace=True, **changed)


def registry_set(**changed: Any) -> ev.RegistrySet:
    fields: dict[str, Any] = {
        "registry_id": "r1",
        "url": f"https://{HOST}",
        "scheme": "https",
        "host": HOST,
        "username": "robot",
        "password": SEALED,
        "user": "ann",
    }
    return ev.RegistrySet(**(fields | changed))


def test_a_registry_is_attached_changed_and_detached() -> None:
    made = given().when(attach()).then(registry_set())
    made.when(attach()).refused(Conflict, "registry r1 exists already")
    changed = made.when(change(username="robot2")).then(registry_set(username="robot2"))
    changed.when(change(password=OTHER)).then(registry_set(username="robot2", password=OTHER))
    remove = cmd.RemoveRegistry(project=PROJECT, registry_id="r1")
    removed = changed.when(remove).then(ev.RegistryRemoved(registry_id="r1"))
    removed.when(remove).refused(NotFound, "there is no registry r1")
    removed.when(change(username="x")).refused(NotFound, "there is no registry r1")
    removed.when(attach()).then(registry_set())
    bare().when(attach()).refused(NotFound, "there is no project vision")


def test_a_project_has_one_registry_a_host() -> None:
    made = given().when(attach()).after
    for url in (HOST, f"http://{HOST}", f"HTTPS://{HOST.upper()}/v2/"):
        made.when(attach(registry_id="r2", url=url)).refused(Invalid, "is attached already as registry r1")
    second = made.when(attach(registry_id="r2", url="registry.example.org")).after
    second.when(change(url="https://registry.example.org", password=OTHER)).refused(Invalid, "as registry r2")


def test_a_project_has_so_many_registries() -> None:
    """They all lie in its one row. One that is there is changed all the same."""
    hosts = [f"h{number}.example.org" for number in range(MOST_REGISTRIES)]
    full = given(
        *(registry_set(registry_id=f"of-{each}", url=f"https://{each}", host=each) for each in hosts)
    )
    full.when(attach()).refused(QuotaExceeded, "the project has 200 registries, and may have no more")
    one: dict[str, Any] = {"project": PROJECT, "registry_id": f"of-{hosts[7]}"}
    assert full.when(cmd.SetRegistry(**one, user="bob", username="robot2", replace=True)).refusal is None
    gone = full.when(cmd.RemoveRegistry(**one)).after
    assert gone.when(attach()).refusal is None


@pytest.mark.parametrize(
    "url", ["https://elsewhere.example.org", f"http://{HOST}", "https://registry.example.org"]
)
def test_a_password_does_not_follow_its_registry_to_another_place(url: str) -> None:
    made = given().when(attach()).after
    made.when(change(url=url)).refused(Invalid, "password: it is missing; it is needed again")
    scheme, _, host = url.partition("://")
    moved = registry_set(url=url, scheme=scheme, host=host, password=OTHER)
    made.when(change(url=url, password=OTHER)).then(moved)
    same = f"{HOST.upper()}/"
    made.when(change(url=same)).then(registry_set(url=same))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"url": None}, "url: it is missing"),
        ({"url": ""}, "url: ''"),
        ({"url": "registry"}, "the host has a dot or a port"),
        ({"url": "ftp://registry.example.org"}, "without a path"),
        ({"url": "https://registry.example.org/team"}, "without a path"),
        ({"url": "https://registry.example.org?x"}, "url"),
        ({"url": "https://registry.example.org:0"}, "url"),
        ({"url": "https://registry.example.org:99999"}, "url"),
        ({"url": "https://ann:hunter2@registry.example.org"}, "a URL with a user"),
        ({"url": "https://registry.example.org\n"}, "url"),
        ({"url": "https://registry .example.org"}, "url"),
        ({"username": None}, "username: it is missing"),
        ({"username": ""}, "username"),
        ({"username": "a:b"}, "without ':'"),
        ({"username": "a\nb"}, "username"),
        ({"username": "a" * 256}, "1 to 255"),
        ({"password": None}, "password: it is missing"),
    ],
)  # fmt: skip
def test_registries_that_are_refused(changed: dict[str, Any], text: str) -> None:
    outcome = given().when(attach(**changed))
    outcome.refused(Invalid, text)
    assert outcome.refusal is not None and "hunter2" not in outcome.refusal.message


@pytest.mark.parametrize(
    ("url", "scheme", "host"),
    [
        ("docker.io", "https", "docker.io"),
        ("index.docker.io", "https", "docker.io"),
        ("https://registry-1.docker.io", "https", "docker.io"),
        ("https://index.docker.io/v1/", "https", "docker.io"),
        ("localhost", "https", "localhost"),
        ("http://127.0.0.1:5000/", "http", "127.0.0.1:5000"),
        ("registry.example.org:443", "https", "registry.example.org:443"),
        ("https://[::1]:5000", "https", "[::1]:5000"),
    ],
)
def test_what_a_url_names(url: str, scheme: str, host: str) -> None:
    assert read_registry_url("url", url) == (scheme, host)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("busybox", "docker.io/library/busybox"),
        ("busybox:1@sha256:" + "0a" * 32, "docker.io/library/busybox"),
        ("team/image", "docker.io/team/image"),
        ("docker.io/busybox", "docker.io/library/busybox"),
        ("index.docker.io/team/image", "docker.io/team/image"),
        ("Registry.Example.org/image", "registry.example.org/image"),
        ("registry.example.org:443/image:v1", "registry.example.org:443/image"),
    ],
)
def test_the_repository_of_a_reference_in_one_spelling(reference: str, name: str) -> None:
    image = parse_image(reference)
    assert image is not None
    assert repository(image) == name


@pytest.mark.parametrize("text", ["sha256:" + "0a" * 32, "sha256:0a", "sha256", "0a" * 32])
def test_an_id_of_an_image_is_no_reference(text: str) -> None:
    """The engine would find whoever's image has it."""
    assert parse_image(text) is None


def test_a_project_uses_its_own_part_of_the_shared_registry() -> None:
    check_shared("shared.example.org/vision/net:1", "vision", "shared.example.org")
    check_shared("shared.example.org/audio/net:1", "vision", "")
    check_shared("other.example.org/audio/net:1", "vision", "shared.example.org")
    check_shared("audio/net:1", "vision", "shared.example.org")
    for path in ("audio/net", "vision", "vision2/net", "net"):
        for host in ("shared.example.org", "SHARED.example.org"):
            with pytest.raises(Invalid, match=r"image: .* shared\.example\.org/vision/\.\.\. only"):
                check_shared(f"{host}/{path}", "vision", "shared.example.org")
    image = parse_image("shared.example.org/vision/a")
    assert image is not None and is_of_project(image, "vision") and not is_of_project(image, "vis")


def test_hosts_are_compared_whole() -> None:
    project = folded(given().when(attach()).after.events).get("projects", PROJECT)
    assert project.registry_of(HOST).id == "r1"
    for host in (
        "registry.example.org",
        "registry.example.org:5001",
        "x.registry.example.org:5000",
        "docker.io",
    ):
        assert project.registry_of(host) is None
    assert canonical_host("INDEX.docker.io") == canonical_host(None) == "docker.io"


def test_a_row_of_an_older_version_has_no_registries() -> None:
    row = FOLD.decoder.decode(b'{"id":"vision","name":"Vision","createdAt":"2026-01-01T00:00:00Z"}')
    assert row.registries == {}


def test_a_challenge_is_read_from_its_names_beginnings() -> None:
    said = ["Negotiate", 'Bearer realm="https://a.test/token", service = x,scope="a:b,c"']
    found = {"scheme": "bearer", "realm": "https://a.test/token", "service": "x", "scope": "a:b,c"}
    assert _challenge(said) == found
    long = "x" * 33 + "realm"
    assert _challenge([f'Basic {long}="a", realm="b"']) == {"scheme": "basic", "realm": "b"}
    assert _challenge(["Bearer " + "a" * 300_000]) == {"scheme": "bearer"}, "and that within minutes"
