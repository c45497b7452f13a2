"""Data stores of type git: which endpoints and repositories are taken, and what a job gets that names one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from service.cli import parse
from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.asked import DataStoreAsked, PrivateSwiftAsked, SourceAsked, VolumeAsked
from service.domain.directory import DataStore
from service.domain.events import decode_body, encode_body
from service.domain.gitstores import (
    BasicLogin,
    GitEndpoint,
    GitKeys,
    SshLogin,
    read_git_endpoint,
    read_repository,
)
from service.domain.spec import Permission, Place, Volume
from service.domain.volumes import read_user_volume, read_volumes
from service.errors import Conflict, Invalid
from tests.support import jobs
from tests.support.jobs import PROJECT, SEALED
from tests.support.specification import Outcome, Specification, folded, given

KEYS = GitKeys(private_key=SEALED, public_key="ssh-ed25519 AAAA", host_keys=("ssh-ed25519 BBBB",))
HUB = ev.DataStoreSet(alias="hub", kind="git", endpoint="ssh://git@hub.example/team", git=KEYS)
S3 = ev.DataStoreSet(
    alias="s3", kind="s3", endpoint="http://s3", region="r", access_key=SEALED, secret_key=SEALED
)
#: As it was written before there were stores of type git.
OLD = (
    b'{"accessKey":{"box":"Ym94","keyId":"k","nonce":"bm9uY2U="},"alias":"s3","endpoint":"http://s3","kind":'
    b'"s3","owner":"customer","region":"gra","secretKey":{"box":"Ym94","keyId":"k","nonce":"bm9uY2U="}}'
)


def test_old_events_keep_every_byte_and_are_stores_of_objects() -> None:
    body: Any = decode_body("DataStoreSet", OLD)
    assert encode_body(body) == OLD
    row = folded(given(body).events).get("projects", PROJECT)
    store = row.data_stores["s3"]
    assert (store.kind, store.region, store.git) == ("s3", "gra", msgspec.UNSET)
    assert store.key_pair == (body.access_key, body.secret_key)
    written = msgspec.json.encode(store)
    assert b"git" not in written
    assert msgspec.json.decode(written, type=DataStore) == store


def test_a_git_store_is_kept_with_its_keys_and_nothing_of_the_other_type() -> None:
    body: Any = decode_body("DataStoreSet", encode_body(HUB))
    assert body == HUB
    assert b"region" not in encode_body(HUB)
    row = folded(given(HUB).events).get("projects", PROJECT)
    store = row.data_stores["hub"]
    assert (store.git, store.key_pair, store.region) == (KEYS, None, msgspec.UNSET)
    assert msgspec.json.decode(msgspec.json.encode(row), type=type(row)) == row


@pytest.mark.parametrize(
    ("endpoint", "found", "url"),
    [
        ("https://h.example", ("https", "h.example", 443, "", "", False), "https://h.example:443/r"),
        ("https://h.example/", ("https", "h.example", 443, "", "", False), "https://h.example:443/r"),
        ("https://h:8443/a/b/", ("https", "h", 8443, "/a/b", "", False), "https://h:8443/a/b/r"),
        ("https://[2001:db8::1]/~u", ("https", "2001:db8::1", 443, "/~u", "", False),
         "https://[2001:db8::1]:443/~u/r"),
        ("ssh://h", ("ssh", "h", 22, "", "git", False), "ssh://git@h:22/r"),
        ("ssh://me@h:2222/srv/git/", ("ssh", "h", 2222, "/srv/git", "me", False), "ssh://me@h:2222/srv/git/r"),
        ("git@h:team", ("ssh", "h", 22, "team", "git", True), "git@h:team/r"),
        ("git@h:", ("ssh", "h", 22, "", "git", True), "git@h:r"),
        ("git@h:/srv", ("ssh", "h", 22, "/srv", "git", True), "git@h:/srv/r"),
    ],
)  # fmt: skip
def test_endpoints(endpoint: str, found: tuple[Any, ...], url: str) -> None:
    read = read_git_endpoint("endpoint", endpoint)
    assert read == GitEndpoint(*found)
    assert read.url("r") == url
    assert "git@" not in read.shown("r")


@pytest.mark.parametrize(
    "endpoint",
    [
        "", "h", "http://h", "git://h", "file:///srv", "/srv", "ext::sh -c id", "-oProxyCommand=id", "h:path",
        "https://", "https://u:p@h", "https://h?x", "https://h/?", "https://h#x", "https://h/../x",
        "https://0x7f.1", "https://h:0", "https://h:65536", "https://h/a b", "https://h\n", "HTTPS://h",
        "ssh://", "ssh://u:p@h", "ssh://-oProxyCommand=id", "ssh://-u@h", "ssh://h:0", "ssh://h:99999",
        "ssh://h/../x", "ssh://h//x", "ssh://h/-x", "ssh://h/%2e", "ssh://h/x?y", "ssh://h/x#y",
        "ssh://h/$(id)", "ssh://127.1",
        "ssh://h/\n", "git@-h:x", "git@h:-x", "git@h:../x", "git@h:a//b", "@h:x", "git@h:x y", "git@h:x\n",
        "git@h:" + "x" * 2048, "ssh://h/" + "x/" * 1100,
    ],
)  # fmt: skip
def test_endpoints_that_are_refused(endpoint: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_git_endpoint("endpoint", endpoint)
    assert refused.value.field == "endpoint"
    assert "u:p" not in refused.value.message


@pytest.mark.parametrize(
    ("container", "found"),
    [
        ("r", ("r", None)),
        ("owner/repo.git#v1.0", ("owner/repo.git", "v1.0")),
        (".github", (".github", None)),
        ("a/b/c#feature/x", ("a/b/c", "feature/x")),
        ("~me/c++", ("~me/c++", None)),
    ],
)
def test_repositories(container: str, found: tuple[str, str | None]) -> None:
    assert read_repository("container", container) == found


@pytest.mark.parametrize(
    "container",
    [
        "", "#v1", "r#", "r#-x", "r#a..b", "r#x^{}", "..", "a/../b", "a/.", "/a", "a/", "a//b", "-a",
        "a/-b", "a b", "a\n", "a?b", "a%2e", "a:b", "a@b", "a\\b", "é", "x" * 256,
        "/".join("a" * 17), "x/" * 600 + "x",
        "$(id)",
    ],
)  # fmt: skip
def test_repositories_that_are_refused(container: str) -> None:
    with pytest.raises(Invalid, match="container"):
        read_repository("container", container)


def test_the_command_line_names_a_repository_as_a_container() -> None:
    assert parse.volume("team/r.git#v1@hub/src/:/d:ro") == {
        "dataStore": {"alias": "hub", "container": "team/r.git#v1", "prefix": "src/"},
        "mountPath": "/d",
        "permission": "RO",
    }
    assert parse.volume("git@hub:/d")["dataStore"] == {"alias": "hub", "container": "git"}
    assert "publicGit" in parse.volume("git@hub.example:team/r:/d")


def test_logins_are_not_shown() -> None:
    for login in (BasicLogin("ada", "s3cret"), SshLogin("s3cret")):
        assert "s3cret" not in f"{login!r} {login} {[login]}"


def set_store(**changed: Any) -> cmd.SetDataStore:
    fields: dict[str, Any] = {"kind": "git", "endpoint": "ssh://git@hub.example/team", "git": KEYS}
    return cmd.SetDataStore(**({"project": PROJECT, "alias": "hub"} | fields | changed))


def test_git_stores_are_made_and_may_become_stores_of_objects() -> None:
    made = given().when(set_store()).then(HUB)
    public = set_store(alias="open", endpoint="https://hub.example", git=msgspec.UNSET)
    made.when(public).then(ev.DataStoreSet(alias="open", kind="git", endpoint="https://hub.example"))
    made.when(set_store()).refused(Conflict, "alias: data store hub exists already")
    other = {"kind": "s3", "endpoint": "http://s3", "region": "r", "access_key": SEALED, "secret_key": SEALED}
    changed = made.when(set_store(replace=True, git=msgspec.UNSET, **other))
    assert changed.refusal is None


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"endpoint": "http://h"}, "endpoint"),
        ({"git": GitKeys()}, "credentials.git.sshKeypair"),
        ({"git": GitKeys(basic=SEALED)}, "credentials.git.basicAuth"),
        ({"git": GitKeys(private_key=SEALED, public_key="k")}, "credentials.git.hostKeys"),
        ({"endpoint": "https://h"}, "credentials.git.sshKeypair"),
        ({"endpoint": "https://h", "git": GitKeys(host_keys=("k",))}, "credentials.git.hostKeys"),
    ],
)
def test_git_stores_that_are_refused(changed: dict[str, Any], field: str) -> None:
    given().when(set_store(**changed)).refused(Invalid, f"{field}: ")


# -- volumes ----------------------------------------------------------------------------------------


def asked(container: str = "team/r.git#v1", alias: str = "hub", **more: Any) -> VolumeAsked:
    store = {name: more.pop(name) for name in ("prefix", "archive") if name in more}
    source = DataStoreAsked(alias=alias, container=container, **store)
    return VolumeAsked(mount_path="/d", data_store=source, **more)


def submitted(volumes: tuple[Volume, ...], before: Specification | None = None) -> Outcome:
    return (before or given(HUB, S3)).when(jobs.submit(volumes=volumes))


def made(volume: VolumeAsked) -> Volume:
    return submitted(read_volumes([volume])).job.spec.volumes[0]


def test_a_volume_of_a_repository_is_pulled_and_never_pushed() -> None:
    for permission in ("RO", "RW"):
        volume = made(asked(prefix="src/", permission=permission))
        assert volume.pull_from == Place("hub", "team/r.git#v1", "src/", store="git")
        assert volume.push_to is None
        assert not volume.shared
    elsewhere = made(asked(permission="RWD", target_data_store=DataStoreAsked(alias="s3", container="out")))
    assert elsewhere.push_to == Place("s3", "out")
    of_objects = made(asked("box", "s3", permission="RW"))
    assert of_objects.push_to == of_objects.source == Place("s3", "box")


def test_the_older_spelling_names_a_repository_too() -> None:
    older = VolumeAsked(mount_path="/d", private_swift=PrivateSwiftAsked(container="a/b", region="hub"))
    assert made(older).source == Place("hub", "a/b", store="git")


TARGET = DataStoreAsked(alias="hub", container="team/r.git")


@pytest.mark.parametrize(
    ("volume", "field"),
    [
        (asked(permission="RWD"), "permission"),
        (asked(cache=True), "cache"),
        (asked(archive="a.tar"), "dataStore.archive"),
        (asked("box", "s3", permission="RW", target_data_store=TARGET), "targetDataStore.alias"),
        (asked(permission="RW", target_data_store=TARGET), "targetDataStore.alias"),
        (asked("team/r.git", "s3"), "dataStore.container"),
        (asked("r", "s3"), "dataStore.container"),
        (asked("r", "none"), "dataStore.alias"),
    ],
)
def test_volumes_of_repositories_that_are_refused(volume: VolumeAsked, field: str) -> None:
    submitted(read_volumes([volume])).refused(Invalid, f"volumes[0].{field}: ")


def test_what_no_store_could_hold_is_refused_before_the_project_is_looked_at() -> None:
    for container in ("a/../b", "-x", "a b"):
        with pytest.raises(Invalid, match=r"volumes\[0\].dataStore.container: "):
            read_volumes([asked(container)])


def test_a_projects_volume_of_a_repository_has_no_cache() -> None:
    source = SourceAsked(data_store=DataStoreAsked(alias="hub", container="r#v1"))
    place, cache = read_user_volume(source, None)
    assert isinstance(place, Place)
    order = cmd.CreateVolume(project=PROJECT, volume_id=ID, cache=cache, source=place)
    kept = ev.VolumeCreated(volume_id=ID, source=Place("hub", "r#v1", store="git"))
    created = given(HUB, S3).when(order).then(kept)
    refused = msgspec.structs.replace(order, cache=True, cache_asked=True)
    given(HUB, S3).when(refused).refused(Invalid, "cache: True")
    (volume,) = submitted((Volume("/d", Permission.RW, user_volume=ID),), created).job.spec.volumes
    assert (volume.source, volume.push_to, volume.shared) == (Place("hub", "r#v1", store="git"), None, False)


ID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
