"""Public git repositories and archives in a specification: what is taken, answered, and kept as it was."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from service.api.views import _volume as answered
from service.domain.asked import VolumeAsked
from service.domain.events import decode_body, encode_body
from service.domain.spec import Permission, Place, Volume, Web
from service.domain.volumes import read_volumes
from service.domain.weburls import GitUrl, WebUrl, read_archive_url, read_git_url
from service.errors import Invalid

#: Bodies as they were written before there were public sources: with a source, with a target, standalone.
OLD = (
    b'{"kind":"cpu","source":null,"spec":{"command":[],"defaultHttpPort":8080,"env":[],"grpcPort":null,"'
    b'image":"busybox:latest","labels":{},"name":"n","readUser":null,"resources":{"cpus":1,"ephemeralSto'
    b'rage":1,"flavor":"f","gpuBrand":null,"gpuMemory":null,"gpuModel":null,"kind":"cpu","memory":1,"pri'
    b'vateNetwork":0,"publicNetwork":0,"units":1},"shutdown":null,"timeout":60,"timeoutAutoRestart":fals'
    b'e,"unsecureHttp":false,"volumes":[{"mountPath":"/a","permission":"RO","source":{"alias":"s3","cont'
    b'ainer":"box","prefix":"p/"}},{"cache":true,"mountPath":"/b","permission":"RWD","source":{"alias":"'
    b's3","container":"box","prefix":""},"target":{"alias":"s3","container":"out","prefix":""}},{"mountP'
    b'ath":"/c","permission":"RW"}]},"target":"QUEUED","units":1,"user":"u"}'
)


def test_old_events_keep_every_byte() -> None:
    body: Any = decode_body("JobSubmitted", OLD)
    assert encode_body(body) == OLD
    assert [volume.pull_from for volume in body.spec.volumes] == [
        Place("s3", "box", "p/"),
        Place("s3", "box"),
        None,
    ]


def read(**fields: Any) -> Volume:
    return read_volumes([msgspec.convert({"mountPath": "/v"} | fields, VolumeAsked)])[0]


@pytest.mark.parametrize(("kind", "as_kept"), [("publicGit", "git"), ("publicSwift", "archive")])
def test_a_public_source_is_answered_as_it_was_asked(kind: str, as_kept: Any) -> None:
    source = {kind: {"url": "https://Host.example:8443/a/b.tar.gz"}}
    for asked in (source, {"volumeSource": source}):
        volume = read(permission="RO", **asked)
        assert volume.pull_from == Web(as_kept, "https://Host.example:8443/a/b.tar.gz")
        told = msgspec.to_builtins(answered(volume))
        assert told == {"mountPath": "/v", "permission": "RO", "cache": False, **source}
        assert read_volumes([msgspec.convert(told, VolumeAsked)]) == (volume,)


def test_it_is_never_pushed_to_its_source_and_may_be_elsewhere() -> None:
    source = {"publicGit": {"url": "https://h.example/r"}}
    assert read(permission="RWD", **source).push_to is None
    target = {"alias": "s3", "container": "box"}
    assert read(permission="RW", targetDataStore=target, **source).push_to == Place("s3", "box")
    assert read(permission="RW", **source).permission is Permission.RW


def test_git_urls() -> None:
    at = WebUrl("h.example", 443, "/a/r.git")
    assert read_git_url("f", "https://h.example/a/r.git") == GitUrl("https://h.example/a/r.git", at, None)
    url = "https://h.example/a/r.git#feature/x-1.2"
    assert read_git_url("f", url) == GitUrl("https://h.example/a/r.git", at, "feature/x-1.2")
    assert read_git_url("f", "https://[2001:db8::1]:8443/r").at == WebUrl("2001:db8::1", 8443, "/r")


def test_the_query_of_an_archive_is_kept_and_not_shown() -> None:
    at = read_archive_url("f", "https://h.example/a.zip?token=abc")
    assert (at.query, at.shown) == ("?token=abc", "h.example/a.zip")


@pytest.mark.parametrize(
    "url",
    [
        *("", "h/x", "http://h/x", "ssh://h/x", "git@h:x", "file:///x", "ext::sh", "--upload-pack=x", "HTTPS://h/x"),
        *("https://", "https:///x", "https://h", "https://h/", "https://u:p@h/x", "https://h:0/x", "https://h:65536/x"),
        *("https://h/../x", "https://h/a//b", "https://h/%2e%2E/x", "https://h/a%2f../x", "https://h/%00", "https://h/%0a"),
        *("https://h/a b", "https://h/a\n", "https://h/é", "https://h/%zz", "https://h/a\\b", "https://h:8080\\@g/x"),
        *("https://127.1/x", "https://0x7f.0.0.1/x", "https://2130706433/x", "https://01.2.3.4/x", "https://1.2.3.4.5/x"),
        *("https://[::1/x", "https://[x]/x", "https://-h/x", "https://h-/x", "https://h..g/x", "https://h./x"),
        *("https://h/x#", "https://h/x#-b", "https://h/x#a..b", "https://h/x#a b", "https://h/x#a.lock", "https://h/x#a/"),
        *("https://h/x#@{1}", "https://h/x#a~1", "https://h/x?q", "https://h/" + "x" * 2048),
    ],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_git_url("volumes[0].publicGit.url", url)
    assert refused.value.field == "volumes[0].publicGit.url"
    assert "u:p" not in refused.value.message


@pytest.mark.parametrize("url", ["http://h/x.zip", "https://h/x.zip#a", "https://u:p@h/x.zip", "https://h?x"])
def test_archive_urls_that_are_refused(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_archive_url("f", url)
    assert "u:p" not in refused.value.message
