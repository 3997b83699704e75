"""LMDB's list of the pages that hold nothing, read from the file, because Python's binding opens every table but this.

Each commit puts into it, under its own number, the pages that it freed. LMDB uses them again once no read is as old as
that commit. Pages that a read transaction sees are not written anew, and neither are those of a newer list, so whoever
holds one can read the list while others write.
"""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import Corrupted

# Of a meta page: page size and root of the list, and the number of its commit (meta_pages.py).
_META = struct.Struct("<40xI36xQ56xQ")
_PAGE_BYTES_MAX = 1 << 16
# Of a page: flags, and the end of the array of its nodes; of a node: size of the data or number of the child in two
# halves, flags or the rest of that number, size of the key.
_HEADER = struct.Struct("<10xHH2x")
_NODE = struct.Struct("<HHHH")
_NUMBER = struct.Struct("<Q")
_BRANCH, _LEAF = 0x01, 0x02
_ELSEWHERE = 0x01
"""Flag of a node whose data have pages of their own."""
_NONE = (1 << 64) - 1
_DEPTH_MAX = 32


def bytes_freed_since(file: Path, commit: int) -> int:
    """Return the bytes that this commit and those after it have freed; whoever asks holds a read transaction.

    Raises:
        Corrupted: the list is damaged.
    """
    with open(file, "rb", buffering=0) as opened:
        descriptor, size = opened.fileno(), os.fstat(opened.fileno()).st_size
        try:
            page_bytes, root = _root(descriptor)
            left = size // page_bytes

            def page(number: int) -> bytes:
                nonlocal left
                left -= 1
                found = os.pread(descriptor, page_bytes, number * page_bytes)
                if left < 0 or len(found) < page_bytes:
                    raise ValueError("its pages go round in a circle, or lie beyond the end")
                return found

            return page_bytes * sum(_counts(page, root, commit, _DEPTH_MAX))
        except (struct.error, ArithmeticError, ValueError) as error:
            raise Corrupted(f"{file} is damaged: of its list of free pages: {error}; restore it from a copy") from error


def _root(descriptor: int) -> tuple[int, int]:
    """Return the size of a page, and the page at which the newest list begins."""
    first = _META.unpack_from(os.pread(descriptor, _PAGE_BYTES_MAX, 0))
    page_bytes = first[0]
    second = _META.unpack_from(os.pread(descriptor, _PAGE_BYTES_MAX, page_bytes))
    return page_bytes, max(first, second, key=lambda meta: meta[2])[1]


def _counts(page: Callable[[int], bytes], number: int, commit: int, depth: int) -> Iterator[int]:
    """Yield how many pages each commit has freed, the newest first, back to `commit`."""
    if number == _NONE:
        return
    data = page(number)
    flags, end = _HEADER.unpack_from(data)
    if not depth or not flags & (_BRANCH | _LEAF):
        raise ValueError(f"page {number} is none of a list")
    for place in range(end - 2, _HEADER.size - 2, -2):
        node = int.from_bytes(data[place : place + 2], "little")
        low, high, rest, key_bytes = _NODE.unpack_from(data, node)
        content = node + _NODE.size + key_bytes
        # The first child of a branch has no key: it is the one with all that are smaller.
        of_commit = _NUMBER.unpack_from(data, node + _NODE.size)[0] if key_bytes else 0
        if flags & _BRANCH:
            yield from _counts(page, low | high << 16 | rest << 32, commit, depth - 1)
        elif of_commit >= commit:
            if rest & _ELSEWHERE:
                data_page = page(_NUMBER.unpack_from(data, content)[0])
                count = _NUMBER.unpack_from(data_page, _HEADER.size)[0]
            else:
                count = _NUMBER.unpack_from(data, content)[0]
            if (count + 1) * _NUMBER.size > (low | high << 16):
                raise ValueError(f"an entry tells of {count} pages")
            yield count
        if of_commit < commit:
            return
