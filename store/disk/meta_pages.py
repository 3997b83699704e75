"""The two pages with which an LMDB file begins: each commit writes the one that the commit before it did not write.

LMDB goes by the one of the greater transaction number, without a checksum. Were that number damaged, the last commit
would be taken back without a word, and what it deleted would answer again. But in a whole file, also after a power
failure, the two numbers follow each other; only in one that was never written to are both 0. (A number that is wrong by
exactly two may pass: it follows the other from the other side.)
"""

import struct
from pathlib import Path

from ..errors import Corrupted

MAGIC = 0xBEEFC0DE
VERSION = 1
_MAP_BYTES_MAX = 1 << 42
"""More than any environment's; a larger one finds no place in the addresses of a process."""
PAGE_BYTES = [1 << bits for bits in range(9, 17)]
# Behind the page's header of 16 bytes: magic, version, address, map size, page size, two tables, last page, number.
_META = struct.Struct("<16xII8xQI92xQQ")


def check_meta_pages(file: Path) -> None:
    """Compare the two pages of a data file; those of another version are left to LMDB to refuse.

    Raises:
        Corrupted: they are not of one kind, or their numbers do not follow each other.
    """
    with open(file, "rb") as opened:
        head = opened.read(PAGE_BYTES[-1] + _META.size)
    if len(head) < _META.size:
        return
    magic, version, map_bytes, page_bytes, last_page, first = _META.unpack_from(head)
    if magic != MAGIC:
        return
    if page_bytes not in PAGE_BYTES:
        raise Corrupted(
            f"{file} is damaged: its meta page speaks of pages of {page_bytes} bytes; restore it from a copy"
        )
    if len(head) < page_bytes + _META.size:
        return
    other_magic, other_version, other_map_bytes, _, other_last_page, second = _META.unpack_from(head, page_bytes)
    if (magic, version) != (other_magic, other_version):
        raise Corrupted(f"{file} is damaged: its two meta pages differ in what they are; restore it from a copy")
    if version != VERSION:
        return
    reach = max(map_bytes, other_map_bytes, (max(last_page, other_last_page) + 1) * page_bytes)
    if reach > _MAP_BYTES_MAX:
        raise Corrupted(f"{file} is damaged: its meta pages speak of {reach} bytes; restore it from a copy")
    if abs(first - second) != 1 and (first, second) != (0, 0):
        raise Corrupted(
            f"{file} is damaged: its meta pages are of the transactions {first} and {second}, which do not follow each "
            "other, so the last commit may be missing; restore it from a copy"
        )
