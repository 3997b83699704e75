from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3.store.errors import Corrupted
from memory3.store.snapshot import Snapshot, decode_snapshot, read_snapshot, write_snapshot

SHARD = "0123456789abcdef" * 2


def encoded(tmp_path_factory: pytest.TempPathFactory, payload: bytes) -> bytes:
    path = tmp_path_factory.mktemp("snapshot") / "index.snapshot"
    write_snapshot(path, Snapshot(16, SHARD, 7, 3, payload))
    return path.read_bytes()


@given(payload=st.binary(max_size=200))
def test_a_snapshot_comes_back(tmp_path_factory: pytest.TempPathFactory, payload: bytes) -> None:
    found = decode_snapshot(encoded(tmp_path_factory, payload))
    assert (found.dimension, found.shard_id, found.seq, found.count) == (16, SHARD, 7, 3)
    assert bytes(found.payload) == payload


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = encoded(tmp_path_factory, b"payload of the index")
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Corrupted):
            decode_snapshot(bytes(damaged))
    for size in range(len(data)):
        with pytest.raises(Corrupted):
            decode_snapshot(data[:size])
    with pytest.raises(Corrupted):
        decode_snapshot(data + b"x")


def test_a_missing_snapshot_is_an_error_and_not_an_empty_index(tmp_path: Path) -> None:
    with pytest.raises(Corrupted, match="cannot be read"):
        read_snapshot(tmp_path / "index.snapshot")
