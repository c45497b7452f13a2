"""No image reference that is accepted can change the URL it becomes part of."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.domain.images import parse_image

#: Pieces of which references and attacks on them are made.
PIECES = st.sampled_from(
    [
        *("a", "b0", "library", "busybox", "host.tld", "localhost", "[::1]", "127.0.0.1", "latest", "A", "é"),
        *("/", "//", ":", ":5000", "@", "@sha256:" + "0a" * 32, ".", "..", "-", "--", "_", "__", "___"),
        *("?", "#", "%2f", "%", "\\", " ", "\n", "\r\n", "\0", "\t", ";", "&", "=", "$", "{", "http://", "~"),
    ]
)
#: What the grammar allows, so that enough is accepted.
NAME = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}", fullmatch=True)
HOST = st.from_regex(
    r"(localhost|\[::[0-9a-f]\]|[a-zA-Z0-9]{1,4}(-[a-z0-9])?\.tld)(:[1-9][0-9]{0,3})?", fullmatch=True
)
TAG = st.from_regex(r":[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,4}", fullmatch=True) | st.just("")
DIGEST = st.sampled_from(["", "", "@sha256:" + "0a" * 32])
PATH = st.lists(NAME, min_size=1, max_size=3).map("/".join)
VALID = st.tuples(HOST.map("{}/".format) | st.just(""), PATH, TAG, DIGEST).map("".join)
BENT = st.tuples(VALID, PIECES, st.integers(0, 40)).map(lambda t: t[0][: t[2]] + t[1] + t[0][t[2] :])
REFERENCES = VALID | BENT | st.lists(PIECES, min_size=1, max_size=9).map("".join) | st.text(max_size=30)


@settings(max_examples=1000)
@given(REFERENCES)
@example("host.tld:5000/a/b:tag@sha256:" + "0a" * 32)
@example("a/../b")
@example("user@host.tld/a")
@example("host.tld/a?b")
@example("[0]/0")
@example("[:]/0")
@example("host.tld:99999/a")
def test_no_reference_alters_a_url(text: str) -> None:
    found = parse_image(text)
    if found is None:
        return
    host = found.host or "registry.invalid"
    url = f"https://{host}/v2/{found.path}/manifests/{found.digest or found.tag or 'latest'}"
    parts = urlsplit(url)
    assert parts.netloc == host
    assert parts.port is None or parts.port > 0
    assert parts.path == f"/v2/{found.path}/manifests/{found.digest or found.tag or 'latest'}"
    assert (parts.query, parts.fragment, parts.username, parts.password) == ("", "", None, None)
    assert quote(found.path, safe="/") == found.path
    assert all(re.fullmatch(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", part) for part in found.path.split("/"))
    assert not {".", ".."} & set(parts.path.split("/"))
    assert text.isascii() and text.isprintable() and " " not in text


@settings(max_examples=300)
@given(VALID)
def test_what_was_read_reads_the_same_again(text: str) -> None:
    found = parse_image(text)
    assert found is not None
    assert str(found).startswith(text)
    again = parse_image(str(found))
    assert again is not None
    assert (again.host, again.path, again.digest) == (found.host, found.path, found.digest)
    assert again.tag == (found.tag or (None if found.digest else "latest"))
