"""An SFTP server (version 3, and OpenSSH's extensions) over the files that the process itself can reach.

It runs within a container's mounts as the job's user (see `enter`), so it resolves no path by itself and has
no root to keep to: the kernel does all of that. It therefore holds no state but open files, asks nobody for
users' names or time zones, which would read the container's files, and imports nothing later on.

Source: draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL for what differs and for the extensions.
"""

from __future__ import annotations

import itertools
import os
import stat
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from service.supervisor.inside import packets, paths
from service.supervisor.inside.packets import (
    ATTRS,
    DATA,
    EOF,
    EXTENDED_REPLY,
    FAILURE,
    HANDLE,
    UNSUPPORTED,
    VERSION,
    Answered,
    Packet,
    attributes,
    done,
    line,
    named,
    names,
    room,
    status,
    string,
)

MOST_PACKET_BYTES = 256 * 1024
MOST_DATA_BYTES = MOST_PACKET_BYTES - 1024
MOST_HANDLES = 256
_NAMES_A_PACKET = 64

_READ, _WRITE, _APPEND, _CREATE, _TRUNCATE, _NEW = 1, 2, 4, 8, 16, 32
_EXTENSIONS = {
    b"posix-rename@openssh.com": b"1",
    b"hardlink@openssh.com": b"1",
    b"fsync@openssh.com": b"1",
    b"lsetstat@openssh.com": b"1",
    b"limits@openssh.com": b"1",
    b"expand-path@openssh.com": b"1",
    b"statvfs@openssh.com": b"2",
    b"fstatvfs@openssh.com": b"2",
}


class Broken(Exception):
    """The client does not speak SFTP: there is no way to go on."""


class _Listing(NamedTuple):
    """A directory being read, and what is left of it."""

    source: Any
    entries: Iterator[tuple[bytes, os.stat_result]]


class Server:
    """One session. `home` is where relative paths begin; `answer` is all there is to it."""

    def __init__(self, home: bytes = b"/") -> None:
        self._home = home
        self._files: dict[bytes, tuple[int, bool]] = {}
        self._lists: dict[bytes, _Listing] = {}
        self._made = 0
        self._greeted = False

    def answer(self, request: bytes) -> bytes:
        """The answer to one packet, both without their lengths. Raises `Broken`."""
        packet = Packet(request)
        try:
            kind = packet.byte()
            if not self._greeted:
                return self._greet(kind)
            number = packet.number()
        except Answered as end:
            raise Broken(str(end)) from end
        head = struct.pack(">I", number)
        try:
            answered, body = self._carried_out(kind, packet)
        except Answered as end:
            answered, body = status(end.code, str(end))
        except OSError as error:
            code = packets.STATUSES.get(error.errno or 0, FAILURE)
            answered, body = status(code, os.strerror(error.errno or 0))
        except (OverflowError, ValueError):
            answered, body = status(FAILURE, "a number is out of range")
        return bytes([answered]) + head + body

    def _carried_out(self, kind: int, packet: Packet) -> tuple[int, bytes]:
        if (about_a_name := paths.REQUESTS.get(kind)) is not None:
            return about_a_name(packet)
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise Answered(UNSUPPORTED, "there is no such request")
        return handler(self, packet)

    def close(self) -> None:
        for descriptor, _ in self._files.values():
            os.close(descriptor)
        for listing in self._lists.values():
            listing.source.close()
        self._files.clear()
        self._lists.clear()

    def _greet(self, kind: int) -> bytes:
        if kind != 1:
            raise Broken("the first packet must be INIT")
        self._greeted = True
        named = b"".join(string(name) + string(version) for name, version in _EXTENSIONS.items())
        return bytes([VERSION]) + struct.pack(">I", 3) + named

    # -- files --------------------------------------------------------------------------------------

    def _handle(self) -> bytes:
        if len(self._files) + len(self._lists) >= MOST_HANDLES:
            raise Answered(FAILURE, "too many open files")
        self._made += 1
        return struct.pack(">Q", self._made)

    def _file(self, packet: Packet) -> tuple[int, bool]:
        found = self._files.get(packet.text())
        if found is None:
            raise Answered(FAILURE, "there is no such handle")
        return found

    def open(self, packet: Packet) -> tuple[int, bytes]:
        path, flags, asked = packet.path(), packet.number(), packet.attributes()
        handle = self._handle()
        # A fifo that nobody reads from must not hold up the session: hence O_NONBLOCK.
        how = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        both = flags & (_READ | _WRITE) == _READ | _WRITE
        how |= os.O_RDWR if both else os.O_WRONLY if flags & (_WRITE | _APPEND) else os.O_RDONLY
        for flag, native in (
            (_APPEND, os.O_APPEND),
            (_CREATE, os.O_CREAT),
            (_TRUNCATE, os.O_TRUNC),
            (_NEW, os.O_EXCL),
        ):
            how |= native if flags & flag else 0
        mode = 0o666 if asked.mode is None else asked.mode
        descriptor = os.open(path, how, mode)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Answered(FAILURE, "it is a directory")
        self._files[handle] = descriptor, bool(flags & _APPEND)
        return HANDLE, string(handle)

    def shut(self, packet: Packet) -> tuple[int, bytes]:
        handle = packet.text()
        if handle in self._files:
            os.close(self._files.pop(handle)[0])
        elif (listing := self._lists.pop(handle, None)) is not None:
            listing.source.close()
        else:
            raise Answered(FAILURE, "there is no such handle")
        return done()

    def read(self, packet: Packet) -> tuple[int, bytes]:
        (descriptor, _), offset, size = self._file(packet), packet.long(), packet.number()
        data = os.pread(descriptor, min(size, MOST_DATA_BYTES), offset)
        if not data and size:
            raise Answered(EOF, "end of file")
        return DATA, string(data)

    def write(self, packet: Packet) -> tuple[int, bytes]:
        (descriptor, appends), offset, data = self._file(packet), packet.long(), packet.text()
        left = memoryview(data)
        while left:
            written = os.write(descriptor, left) if appends else os.pwrite(descriptor, left, offset)
            left, offset = left[written:], offset + written
        return done()

    def fsync(self, packet: Packet) -> tuple[int, bytes]:
        os.fsync(self._file(packet)[0])
        return done()

    # -- what files are -----------------------------------------------------------------------------

    def fstat(self, packet: Packet) -> tuple[int, bytes]:
        return ATTRS, attributes(os.fstat(self._file(packet)[0]))

    def fsetstat(self, packet: Packet) -> tuple[int, bytes]:
        (descriptor, _), asked = self._file(packet), packet.attributes()
        if asked.size is not None:
            os.ftruncate(descriptor, asked.size)
        return paths.set_on(descriptor, asked, follow=True)

    def fstatvfs(self, packet: Packet) -> tuple[int, bytes]:
        return EXTENDED_REPLY, room(os.statvfs(self._file(packet)[0]))

    # -- directories and names ----------------------------------------------------------------------

    def opendir(self, packet: Packet) -> tuple[int, bytes]:
        path, handle = packet.path(), self._handle()
        source = os.scandir(path)
        self._lists[handle] = _Listing(source, _entries(path, source))
        return HANDLE, string(handle)

    def readdir(self, packet: Packet) -> tuple[int, bytes]:
        listing = self._lists.get(packet.text())
        if listing is None:
            raise Answered(FAILURE, "there is no such handle")
        found = list(itertools.islice(listing.entries, _NAMES_A_PACKET))
        if not found:
            raise Answered(EOF, "no more names")
        return names([(name, line(name, of), attributes(of)) for name, of in found])

    def realpath(self, packet: Packet) -> tuple[int, bytes]:
        return named(self._real(packet.path()))

    def expand(self, packet: Packet) -> tuple[int, bytes]:
        """A path that may begin with `~`, which is where the session began."""
        path = packet.path()
        if path == b"~" or path.startswith(b"~/"):
            path = self._home + path[1:]
        return named(self._real(path))

    @staticmethod
    def _real(path: bytes) -> bytes:
        try:
            return os.path.realpath(path)
        except OSError:
            return os.path.normpath(os.path.join(b"/", path))

    def limits(self, _packet: Packet) -> tuple[int, bytes]:
        most = (MOST_PACKET_BYTES, MOST_DATA_BYTES, MOST_DATA_BYTES, MOST_HANDLES)
        return EXTENDED_REPLY, struct.pack(">4Q", *most)

    def extended(self, packet: Packet) -> tuple[int, bytes]:
        name = packet.text()
        if (about_a_name := paths.EXTENDED.get(name)) is not None:
            return about_a_name(packet)
        handler = _EXTENDED.get(name)
        if handler is None:
            raise Answered(UNSUPPORTED, "there is no such extension")
        return handler(self, packet)


_Handler = Callable[[Server, Packet], tuple[int, bytes]]
_HANDLERS: dict[int, _Handler] = {
    3: Server.open,
    4: Server.shut,
    5: Server.read,
    6: Server.write,
    8: Server.fstat,
    10: Server.fsetstat,
    11: Server.opendir,
    12: Server.readdir,
    16: Server.realpath,
    200: Server.extended,
}
_EXTENDED: dict[bytes, _Handler] = {
    b"fsync@openssh.com": Server.fsync,
    b"limits@openssh.com": Server.limits,
    b"expand-path@openssh.com": Server.expand,
    b"fstatvfs@openssh.com": Server.fstatvfs,
}


def _entries(path: bytes, found: Iterator[os.DirEntry[bytes]]) -> Iterator[tuple[bytes, os.stat_result]]:
    """Names with what they are; those that vanish meanwhile are left out."""
    for name in (b".", b".."):
        try:
            yield name, os.lstat(os.path.join(path, name))
        except OSError:
            continue
    for entry in found:
        try:
            yield entry.name, entry.stat(follow_symlinks=False)
        except OSError:
            continue


# -- over descriptors -------------------------------------------------------------------------------


def serve(server: Server, source: int, sink: int) -> None:
    """Answer what comes from one descriptor on the other, until it ends. Raises `Broken`, `OSError`."""
    try:
        while (head := _exactly(source, 4)) is not None:
            size = int.from_bytes(head, "big")
            if not 0 < size <= MOST_PACKET_BYTES:
                raise Broken(f"a packet of {size} bytes")
            request = _exactly(source, size)
            if request is None:
                raise Broken("the last packet is cut off")
            answer = memoryview(string(server.answer(request)))
            while answer:
                answer = answer[os.write(sink, answer) :]
    finally:
        server.close()


def _exactly(source: int, size: int) -> bytes | None:
    """So many bytes; None at the end, which may only come before the first."""
    found = bytearray()
    while len(found) < size:
        data = os.read(source, size - len(found))
        if not data:
            if found:
                raise Broken("the last packet is cut off")
            return None
        found += data
    return bytes(found)
