"""LMDB's pages as they lie in a file, so that damage can be aimed at those that are in use.

Offsets are those of LMDB 0.9 on 64 bits. A page begins with a header of 16 bytes; branch and leaf pages then have an
array of the places of their nodes, from which free space reaches up to the nodes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PAGE = 4_096
SECTOR = 512

_HEADER = struct.Struct("<QHHHH")  # page number, padding, flags, end of the array of nodes, start of the nodes
_RUN = struct.Struct("<I")  # of an overflow page, in the place of the last two: how many pages follow each other
_META = struct.Struct("<24x40xQ40xQQQ")  # roots of free list and main table, last page, transaction
_NODE = struct.Struct("<HHHH")  # size of the data or number of the child in two halves, flags, size of the key
_BRANCH, _OVERFLOW = 0x01, 0x04
_BIG_DATA, _SUB_TABLE = 0x01, 0x02
_NONE = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Page:
    """A page in use: its number, its kind (meta, branch, leaf, overflow), its table, and its bytes that mean something.

    LMDB's own tables, of free pages and of tables, are called "free" and "main", and its meta pages are of none.
    """

    number: int
    kind: str
    table: str
    used: tuple[range, ...]

    @property
    def start(self) -> int:
        return self.number * PAGE


def pages_in_use(data: bytes) -> list[Page]:
    """Every page of the newest state of an environment that is whole."""
    found = [Page(number, "meta", "", (range(number * PAGE, number * PAGE + 160),)) for number in range(2)]
    metas = [_META.unpack_from(data, number * PAGE + 16) for number in range(2)]
    free, main, _, _ = max(metas, key=lambda meta: meta[3])
    for table, root in (("free", free), ("main", main)):
        found += _tree(data, root, table)
    return found


def _tree(data: bytes, root: int, table: str) -> Iterator[Page]:
    if root == _NONE:
        return
    start = root * PAGE
    _, _, flags, lower, upper = _HEADER.unpack_from(data, start)
    kind = "branch" if flags & _BRANCH else "leaf"
    yield Page(root, kind, table, (range(start, start + lower), range(start + upper, start + PAGE)))
    for place in range(16, lower, 2):
        node = start + int.from_bytes(data[start + place : start + place + 2], "little")
        low, high, node_flags, key_bytes = _NODE.unpack_from(data, node)
        content = node + _NODE.size + key_bytes
        if kind == "branch":
            yield from _tree(data, low | high << 16 | node_flags << 32, table)
        elif node_flags & _SUB_TABLE:
            # The record of a table ends with its root.
            of_table = data[content - key_bytes : content].decode()
            yield from _tree(data, int.from_bytes(data[content + 40 : content + 48], "little"), of_table)
        elif node_flags & _BIG_DATA:
            yield from _run(data, int.from_bytes(data[content : content + 8], "little"), low | high << 16, table)


def _run(data: bytes, first: int, size: int, table: str) -> Iterator[Page]:
    (run,) = _RUN.unpack_from(data, first * PAGE + 12)
    end = first * PAGE + 16 + size
    for number in range(first, first + run):
        yield Page(number, "overflow", table, (range(number * PAGE, min(end, (number + 1) * PAGE)),))
