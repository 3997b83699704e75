from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3.store.errors import Corrupted
from memory3.store.index.snapshot import Slice, Snapshot, decode_snapshot, read_snapshot, write_snapshot
from memory3.store.types import IndexKind

SHARD = "0123456789abcdef" * 2
DIMENSION = 4


def snapshot(kind: IndexKind, slices: Sequence[Slice]) -> Snapshot:
    floats = np.random.default_rng(1).standard_normal((7, DIMENSION)).astype(np.float32)
    if kind is IndexKind.EXACT:
        floats[:] = 0
    code_bytes = DIMENSION * (4 if kind is IndexKind.EXACT else 1)
    return Snapshot(kind, DIMENSION, SHARD, 5 << 48, 7, 3, code_bytes, floats[:5], floats[5:], slices)


def slices_of(kind: IndexKind, sizes: Sequence[int]) -> list[Slice]:
    random = np.random.default_rng(2)
    code_bytes = DIMENSION * (4 if kind is IndexKind.EXACT else 1)
    return [
        (number % 5, random.integers(0, 1 << 40, size), random.integers(0, 256, (size, code_bytes), np.uint8))
        for number, size in enumerate(sizes)
    ]


def read(path: Path) -> tuple[Snapshot, list[Slice]]:
    with read_snapshot(path) as found:
        return found, list(found.slices)


kinds = st.sampled_from(list(IndexKind))


@given(kind=kinds, sizes=st.lists(st.integers(1, 20), max_size=8))
def test_a_snapshot_comes_back(tmp_path_factory: pytest.TempPathFactory, kind: IndexKind, sizes: list[int]) -> None:
    path = tmp_path_factory.mktemp("snapshot") / "index.snapshot"
    written = snapshot(kind, slices_of(kind, sizes))
    write_snapshot(path, written)
    found, slices = read(path)
    for name in ("kind", "dimension", "shard_id", "base", "seq", "clustered_at", "code_bytes"):
        assert getattr(found, name) == getattr(written, name)
    np.testing.assert_array_equal(found.centroids, written.centroids)
    np.testing.assert_array_equal(found.ranges, written.ranges)
    assert len(slices) == len(sizes)
    for (number, ids, codes), (expected, expected_ids, expected_codes) in zip(slices, written.slices, strict=True):
        assert number == expected
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_array_equal(codes, expected_codes)


@pytest.mark.parametrize("kind", list(IndexKind))
def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path, kind: IndexKind) -> None:
    path = tmp_path / "index.snapshot"
    write_snapshot(path, snapshot(kind, slices_of(kind, [2, 1])))
    data = path.read_bytes()
    flips = (data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for at in range(len(data)) for bit in range(8))
    cuts = (data[:size] for size in range(len(data)))
    for damaged in (*flips, *cuts, data + b"x"):
        with pytest.raises(Corrupted):
            list(decode_snapshot(BytesIO(damaged), len(damaged)).slices)


def test_parts_in_another_order_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "index.snapshot"
    kind = IndexKind.QUANTIZED
    write_snapshot(path, snapshot(kind, slices_of(kind, [2, 2])))
    data = path.read_bytes()
    part = 16 + 2 * (8 + DIMENSION) + 8
    end = len(data) - 24
    path.write_bytes(data[: end - 2 * part] + data[end - part : end] + data[end - 2 * part : end - part] + data[end:])
    with pytest.raises(Corrupted, match="fails its checksum"):
        read(path)


def test_a_list_that_there_is_not_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "index.snapshot"
    number, ids, codes = slices_of(IndexKind.EXACT, [2])[0]
    write_snapshot(path, snapshot(IndexKind.EXACT, [(number + 5, ids, codes)]))
    with pytest.raises(Corrupted, match="for list 5"):
        read(path)


def test_codes_that_do_not_fit_the_kind_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "index.snapshot"
    write_snapshot(path, replace(snapshot(IndexKind.EXACT, []), code_bytes=DIMENSION))
    with pytest.raises(Corrupted, match="codes of 4 bytes"):
        read(path)


def test_a_missing_snapshot_is_an_error_and_not_an_empty_index(tmp_path: Path) -> None:
    with pytest.raises(Corrupted, match="cannot be read"):
        read(tmp_path / "index.snapshot")


def test_what_stops_a_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "index.snapshot"
    write_snapshot(path, snapshot(IndexKind.EXACT, slices_of(IndexKind.EXACT, [3])))
    before = path.read_bytes()

    def stopping() -> Iterator[Slice]:
        yield from slices_of(IndexKind.EXACT, [1])
        raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        write_snapshot(path, replace(snapshot(IndexKind.EXACT, []), slices=stopping()))
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["index.snapshot"]
