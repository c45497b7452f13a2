"""An image for attacks: Python, and a program that belongs to root and is setuid."""

from __future__ import annotations

import io
import struct
import tarfile

from service.local.demo import python_image
from tests.images import _imported

NAME = "jobyard-test/hostile:1"
_AT = 0x400000
_HEADERS = 64 + 56

#: mov eax, 107 (geteuid); syscall; mov edi, eax; mov eax, 60 (exit); syscall
_CODE = bytes.fromhex("b86b000000 0f05 89c7 b83c000000 0f05")


def import_hostile() -> str:
    """Make the image if the engine does not hold it yet; answers its name."""
    return _imported(NAME, _packed, python_image.CHANGES)


def _packed() -> bytes:
    into = io.BytesIO()
    python_image.write(into)
    into.seek(0)
    with tarfile.open(fileobj=into, mode="a") as tar:
        entry = tarfile.TarInfo("rooted")
        entry.mode, entry.size = 0o4755, _HEADERS + len(_CODE)
        tar.addfile(entry, io.BytesIO(_program()))
    return into.getvalue()


def _program() -> bytes:
    """The smallest ELF that ends with its effective user: needs no library, which setuid programs may not
    take from where the image has them."""
    size = _HEADERS + len(_CODE)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _AT + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _AT, _AT, size, size, 0x1000)
    return head + segment + _CODE
