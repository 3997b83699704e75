from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3.store import format as fmt
from memory3.store.errors import Corrupted, UnsupportedFormat

from .test_metadata import metadatas

u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 63) - 1)
times = st.floats(0, 1e12)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)

documents = st.builds(
    fmt.DocumentRecord,
    first_seq=st.integers(1, 1 << 60),
    memories=st.integers(1, 1 << 20),
    updated_at=times,
    expires_at=times,
    digest=st.binary(min_size=16, max_size=16),
    metadata=metadatas,
)
memories = st.integers(0, 1000).flatmap(
    lambda ordinal: st.builds(
        fmt.MemoryRecord,
        key=texts,
        ordinal=st.just(ordinal),
        total=st.integers(ordinal + 1, 2000),
        text=texts,
    )
)
changes = st.builds(
    fmt.ChangeRecord,
    kind=st.sampled_from([fmt.WRITTEN, fmt.DELETED]),
    at=times,
    key=texts,
    forgotten=st.tuples(st.integers(1, 1 << 40), st.integers(1, 1000)).map(lambda run: range(run[0], run[0] + run[1]))
    | st.just(range(0)),
)
marks = st.builds(fmt.Mark, at=times, key=st.binary(max_size=511), reason=texts)
fingerprints = st.builds(fmt.FingerprintRecord, number=u32, value_bytes=u32, count=u64)
identities = st.builds(
    fmt.Identity, magic=texts, id=texts, collection=texts, embedder=texts, dimension=u32, shard=st.integers(0, 9)
)

codecs = pytest.mark.parametrize(
    ("values", "encode", "decode"),
    [
        (documents, fmt.encode_document, fmt.decode_document),
        (memories, fmt.encode_memory, fmt.decode_memory),
        (changes, fmt.encode_change, fmt.decode_change),
        (marks, fmt.encode_mark, fmt.decode_mark),
        (fingerprints, fmt.encode_fingerprint, fmt.decode_fingerprint),
        (identities, fmt.encode_identity, fmt.decode_identity),
        (u64, fmt.encode_seq, fmt.decode_seq),
        (u64, fmt.encode_u64, fmt.decode_u64),
        (u32, fmt.encode_u32, fmt.decode_u32),
    ],
    ids=["document", "memory", "change", "mark", "fingerprint", "identity", "seq", "u64", "u32"],
)


@codecs
@given(data=st.data())
def test_what_is_encoded_comes_back(
    values: st.SearchStrategy[Any], encode: Callable[[Any], bytes], decode: Callable[[bytes], Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    assert decode(encode(value)) == value
    assert decode(memoryview(encode(value))) == value  # type: ignore[arg-type]


@codecs
@given(payload=st.binary(max_size=120))
def test_any_bytes_decode_or_are_corrupted(
    values: object, encode: object, decode: Callable[[bytes], Any], payload: bytes
) -> None:
    try:
        decode(payload)
    except (Corrupted, UnsupportedFormat):
        return


@codecs
@given(data=st.data())
def test_a_head_cut_short_is_corrupted(
    values: st.SearchStrategy[Any], encode: Callable[[Any], bytes], decode: Callable[[bytes], Any], data: st.DataObject
) -> None:
    encoded = encode(data.draw(values))
    with pytest.raises(Corrupted):
        decode(encoded[: data.draw(st.integers(0, min(len(encoded), 8) - 1))])


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40))
def test_vectors_come_back(numbers: list[float]) -> None:
    vector = np.array(numbers, dtype=np.float32)
    np.testing.assert_array_equal(fmt.decode_vector(fmt.encode_vector(vector)), vector)


@pytest.mark.parametrize("payload", [b"", b"123", b"12345"])
def test_a_vector_of_broken_size_is_corrupted(payload: bytes) -> None:
    with pytest.raises(Corrupted):
        fmt.decode_vector(payload)


def test_an_identity_of_another_format_is_refused_with_both_versions() -> None:
    identity = fmt.encode_identity(fmt.Identity("m", "i", "c", "e", 3, 0))
    with pytest.raises(UnsupportedFormat, match="version 99, this release reads version 2"):
        fmt.decode_identity(identity.replace(b'"format":2', b'"format":99'))


def test_a_document_is_laid_out_as_the_format_says() -> None:
    record = fmt.DocumentRecord(5, 2, 1.0, 0.0, bytes(range(16)), {"n": -1})
    encoded = fmt.encode_document(record)
    assert encoded[0] == 1
    assert int.from_bytes(encoded[1:9], "little") == 5
    assert int.from_bytes(encoded[9:13], "little") == 2
    assert encoded[29:45] == bytes(range(16))
    assert encoded[45:] == b"\x01\x00" + b"\x02\x01\x00" + b"n" + b"\xff" * 8
    assert record.version == 6
    assert list(record.seqs) == [5, 6]


def test_a_memory_and_a_change_are_laid_out_as_the_format_says() -> None:
    memory = fmt.encode_memory(fmt.MemoryRecord("key", 1, 2, "text"))
    assert memory == b"\x01" + b"\x01\0\0\0" + b"\x02\0\0\0" + b"\x03\0" + b"keytext"
    change = fmt.encode_change(fmt.ChangeRecord(fmt.DELETED, 0.0, "key", range(7, 9)))
    assert change == b"\x02" + b"\0" * 8 + b"\x07" + b"\0" * 7 + b"\x02\0\0\0" + b"\x03\0" + b"key"
    assert fmt.encode_value_key(1, 2) == b"\0\0\0\x01" + b"\0" * 7 + b"\x02"
    assert fmt.decode_value_key(fmt.encode_value_key(3, 4)) == (3, 4)
