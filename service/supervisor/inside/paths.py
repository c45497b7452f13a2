"""SFTP's requests about names: none needs anything but the packet. See `sftp`."""

from __future__ import annotations

import os
from collections.abc import Callable

from service.supervisor.inside.packets import (
    ATTRS,
    EXTENDED_REPLY,
    FAILURE,
    UNSUPPORTED,
    Answered,
    Attributes,
    Packet,
    attributes,
    done,
    named,
    room,
)


def lstat(packet: Packet) -> tuple[int, bytes]:
    return ATTRS, attributes(os.lstat(packet.path()))


def stat_of(packet: Packet) -> tuple[int, bytes]:
    return ATTRS, attributes(os.stat(packet.path()))


def setstat(packet: Packet) -> tuple[int, bytes]:
    path, asked = packet.path(), packet.attributes()
    if asked.size is not None:
        os.truncate(path, asked.size)
    return set_on(path, asked, follow=True)


def lsetstat(packet: Packet) -> tuple[int, bytes]:
    path, asked = packet.path(), packet.attributes()
    if asked.size is not None or asked.mode is not None:
        raise Answered(UNSUPPORTED, "a link itself has no size and no mode to set")
    return set_on(path, asked, follow=False)


def set_on(file: bytes | int, asked: Attributes, *, follow: bool) -> tuple[int, bytes]:
    """Mode, times and owner, as far as they are asked for. `file`: a path or a descriptor."""
    if asked.mode is not None:
        os.chmod(file, asked.mode)
    if asked.times is not None:
        os.utime(file, asked.times, follow_symlinks=follow)
    if asked.owner is not None:
        os.chown(file, *asked.owner, follow_symlinks=follow)
    return done()


def statvfs(packet: Packet) -> tuple[int, bytes]:
    return EXTENDED_REPLY, room(os.statvfs(packet.path()))


def remove(packet: Packet) -> tuple[int, bytes]:
    os.unlink(packet.path())
    return done()


def mkdir(packet: Packet) -> tuple[int, bytes]:
    path, asked = packet.path(), packet.attributes()
    os.mkdir(path, 0o777 if asked.mode is None else asked.mode)
    return done()


def rmdir(packet: Packet) -> tuple[int, bytes]:
    os.rmdir(packet.path())
    return done()


def rename(packet: Packet) -> tuple[int, bytes]:
    """Version 3's own: it never replaces anything."""
    source, target = packet.path(), packet.path()
    if os.path.lexists(target):
        raise Answered(FAILURE, "the new name is taken")
    os.rename(source, target)
    return done()


def posix_rename(packet: Packet) -> tuple[int, bytes]:
    os.rename(packet.path(), packet.path())
    return done()


def hardlink(packet: Packet) -> tuple[int, bytes]:
    os.link(packet.path(), packet.path(), follow_symlinks=False)
    return done()


def symlink(packet: Packet) -> tuple[int, bytes]:
    """OpenSSH has the two the other way round than the draft, and everybody follows it."""
    leads_to, link = packet.path(), packet.path()
    os.symlink(leads_to, link)
    return done()


def readlink(packet: Packet) -> tuple[int, bytes]:
    return named(os.readlink(packet.path()))


REQUESTS: dict[int, Callable[[Packet], tuple[int, bytes]]] = {
    7: lstat,
    9: setstat,
    13: remove,
    14: mkdir,
    15: rmdir,
    17: stat_of,
    18: rename,
    19: readlink,
    20: symlink,
}
EXTENDED: dict[bytes, Callable[[Packet], tuple[int, bytes]]] = {
    b"posix-rename@openssh.com": posix_rename,
    b"hardlink@openssh.com": hardlink,
    b"lsetstat@openssh.com": lsetstat,
    b"statvfs@openssh.com": statvfs,
}
