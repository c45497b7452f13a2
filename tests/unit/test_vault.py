"""Sealing: what opens again, what does not, what is never shown, and the master key's one beginning."""

from __future__ import annotations

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from service.domain.spec import Sealed
from service.errors import JobyardError, Misconfigured
from service.vault import KEY_BYTES, MasterKey, ProjectKey, Secret, master_key, new_key

KEY = bytes(range(32))


def flipped(text: str) -> str:
    """One bit of a base64 text's bytes changed."""
    data = bytearray(base64.b64decode(text))
    data[len(data) // 2] ^= 1
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("text", ["", "secret", "ünïcödé \N{PILE OF POO}", "x" * 100_000])
def test_what_was_sealed_opens_again(text: str) -> None:
    key = ProjectKey("k1", "vision", KEY)
    sealed = key.seal(text)
    assert key.open(sealed) == text
    assert ProjectKey("k1", "vision", KEY).open(sealed) == text
    assert key.seal(text) != sealed, "each sealing has its own nonce"


@pytest.mark.parametrize(
    "other",
    [
        ProjectKey("k1", "audio", KEY),  # the same key in another project
        ProjectKey("k1", "vision", new_key()),
        ProjectKey("k2", "vision", KEY),
    ],
)
def test_no_other_key_and_no_other_project_opens_it(other: ProjectKey) -> None:
    sealed = ProjectKey("k1", "vision", KEY).seal("secret")
    with pytest.raises(Misconfigured) as error:
        other.open(sealed)
    assert "secret" not in error.value.message.replace("a secret", "")


def test_a_changed_box_does_not_open() -> None:
    key = ProjectKey("k1", "vision", KEY)
    sealed = key.seal("secret")
    for changed in (
        Sealed("k1", sealed.nonce, flipped(sealed.box)),
        Sealed("k1", flipped(sealed.nonce), sealed.box),
        Sealed("k1", sealed.nonce, sealed.box[:-8]),
        Sealed("k1", "", sealed.box),
        Sealed("k1", sealed.nonce, "no base64 !"),
        Sealed("k1", "é", sealed.box),
    ):
        with pytest.raises(Misconfigured, match="cannot be opened"):
            key.open(changed)


def test_nothing_secret_is_shown() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in repr(secret) + repr([secret]) + repr({"a": secret})
    assert f"{secret}" == "hunter2"
    shown = repr(ProjectKey("k1", "vision", KEY)) + repr(MasterKey(KEY))
    assert shown == "ProjectKey('k1')MasterKey(...)"


def test_digests_tell_parts_apart_and_depend_on_the_key() -> None:
    key = ProjectKey("k1", "vision", KEY)
    assert key.digest(b"ab", b"c") == key.digest(b"ab", b"c")
    assert len({key.digest(b"ab", b"c"), key.digest(b"a", b"bc"), key.digest(b"abc")}) == 3
    assert ProjectKey("k1", "vision", new_key()).digest(b"abc") != key.digest(b"abc")


def test_the_master_key_seals_keys_to_their_project() -> None:
    master = MasterKey(KEY)
    nonce, box = master.wrap("vision", b"inner")
    assert master.unwrap("vision", nonce, box) == b"inner"
    for other, project in ((master, "audio"), (MasterKey(new_key()), "vision")):
        with pytest.raises(Misconfigured, match="another master key"):
            other.unwrap(project, nonce, box)


@pytest.mark.parametrize(
    "configured", ["", "x", "é" * 44, base64.b64encode(b"short").decode(), "====", "A" * 43]
)
def test_master_keys_that_cannot_be(configured: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="32 bytes"):
        master_key(configured, tmp_path / "key")
    assert not (tmp_path / "key").exists()


def test_a_configured_key_needs_no_file(tmp_path: Path) -> None:
    nonce, box = MasterKey(KEY).wrap("p", b"inner")
    configured = master_key(base64.b64encode(KEY).decode(), tmp_path / "key")
    assert configured.unwrap("p", nonce, box) == b"inner"
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_made_once_private_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "state" / "master.key"
    nonce, box = master_key(None, path).wrap("p", b"inner")
    assert len(path.read_bytes()) == KEY_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert master_key(None, path).unwrap("p", nonce, box) == b"inner"
    assert [found.name for found in path.parent.iterdir()] == ["master.key"]


def test_a_key_that_is_used_outlives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it sealed lies in a database that does: its name is safe on the disk, and its folders are."""
    path = tmp_path / "new" / "state" / "master.key"
    safe: list[Path] = []
    settle = os.fsync

    def noting(descriptor: int) -> None:
        settle(descriptor)
        if path.exists():
            safe.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", noting)
    master_key(None, path)
    assert set(safe) == {path.parent, tmp_path / "new", tmp_path}
    safe.clear()
    path.unlink()
    master_key(None, path)
    assert safe == [path.parent]


def test_two_at_a_time_agree_on_one_key(tmp_path: Path) -> None:
    for attempt in range(20):
        path = tmp_path / str(attempt) / "master.key"
        together = Barrier(2)

        def made(path: Path = path, together: Barrier = together) -> MasterKey:
            together.wait()
            return master_key(None, path)

        with ThreadPoolExecutor(2) as threads:
            first, second = (future.result() for future in [threads.submit(made) for _ in range(2)])
        assert second.unwrap("p", *first.wrap("p", b"inner")) == b"inner"
        assert [found.name for found in path.parent.iterdir()] == ["master.key"]


def test_a_draft_that_a_killed_process_left_is_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container, the next process has the same number."""

    def killed(source: object, target: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "master.key"
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", killed)
        patch.setattr(Path, "unlink", lambda _path: None)
        with pytest.raises(KeyboardInterrupt):
            master_key(None, path)
    assert len(list(tmp_path.iterdir())) == 1
    assert master_key(None, path)
    assert len(path.read_bytes()) == KEY_BYTES


def test_a_file_that_holds_no_key_says_so(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(b"short")
    with pytest.raises(Misconfigured, match="32 bytes"):
        master_key(None, path)
    with pytest.raises(JobyardError, match="cannot be read"):
        master_key(None, tmp_path)
