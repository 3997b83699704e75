"""Values survive the way over the wire unchanged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3.answers import ChunkExplanation, Explained, Explaining, Finished, ReadMemory, Recalled, Text
from memory3.protos.memory3.v1 import types_pb2 as pb
from memory3.protos.memory3.v1.generation_service_pb2 import GenerateResponse
from memory3.store.errors import InvalidArgument
from memory3.store.types import (
    BackupReport,
    CollectionBackup,
    CollectionInfo,
    CollectionStats,
    CompactReport,
    Count,
    Document,
    Hit,
    IndexKind,
    IndexState,
    MemoryReads,
    StoredDocument,
)
from memory3.wire import convert, events

METADATA = st.dictionaries(
    st.text(max_size=8),
    st.text(max_size=8) | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans(),
    max_size=4,
)


@given(st.text(), st.text(), METADATA)
def test_documents(key: str, text: str, metadata: dict[str, str | int | float | bool]) -> None:
    document = Document(key, text, metadata)
    assert convert.document_from_wire(convert.document_to_wire(document)) == document
    stored = StoredDocument(key, text, metadata, 3, (1, 2), 1.5, None, (4, 0))
    back = convert.stored_from_wire(convert.stored_to_wire(stored))
    assert back == stored
    assert {name: type(value) for name, value in back.metadata.items()} == {
        name: type(value) for name, value in metadata.items()
    }


@pytest.mark.parametrize("value", [2**63, None, [1], b"x"])
def test_metadata_that_cannot_travel_is_named(value: object) -> None:
    with pytest.raises(InvalidArgument, match="metadata 'size'"):
        convert.document_to_wire(Document("k", "t", {"size": value}))  # type: ignore[dict-item]


def test_text_with_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="cannot be sent"):
        convert.document_to_wire(Document("k", "\ud800"))


def test_vectors() -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_array_equal(convert.vectors_from_wire(convert.vectors_to_wire(vectors)), vectors)
    with pytest.raises(InvalidArgument, match="four bytes each"):
        convert.vectors_from_wire([pb.Vector(float32_le=b"abc")])
    with pytest.raises(InvalidArgument, match="four bytes each"):
        convert.vectors_from_wire([pb.Vector(float32_le=b"abcd"), pb.Vector(float32_le=b"abcdefgh")])


def test_what_is_told_of_the_disk() -> None:
    info = CollectionInfo("c", "e", 3, 2)
    indices = (IndexState(IndexKind.EXACT, 1, 1, False, None), IndexState(IndexKind.QUANTIZED, 2, 3, True, 4))
    most_read = (MemoryReads("k", 2, 9), MemoryReads("j", 1, 3))
    stats = CollectionStats(
        *(info, Count(1, 2), {"m": 3}, {"m": 4}, {"m": 30}, (4, 5), 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 2),
        indices=indices,
        missing_shards=(1,),
        most_read=most_read,
    )
    assert convert.stats_from_wire(convert.stats_to_wire(stats)) == stats
    backup = BackupReport("/b", 1.5, (CollectionBackup("c", 1, 2, (3, 4)), CollectionBackup("d", 0, 0, ())), 5, 6)
    assert convert.backup_from_wire(convert.backup_to_wire(backup)) == backup
    compacted = CompactReport(2, 1)
    assert convert.compact_from_wire(convert.compact_to_wire(compacted)) == compacted


def test_events() -> None:
    hit = Hit("k", "t", 0.5, 3, {"a": True}, 4, 1, True)
    recalled = Recalled(2, (hit,), (3,))
    for event in (Text("x"), recalled, Finished("length", 3, {"total": 0.5}), Finished("stop", 0, {})):
        assert events.event_from_wire(events.event_to_wire(event)) == event
    assert events.event_from_wire(GenerateResponse()) is None


def test_explanations() -> None:
    """A loss of 0 and one that was not computed are two things."""
    hits = [Hit(f"k{number}", "t", 0.5, 3, {"a": True}, number, 1, True) for number in range(3)]
    read = (ReadMemory(hits[0], 0.25, -0.5), ReadMemory(hits[1], 0.1, 0.0), ReadMemory(hits[2], 0.1, None))
    chunks = (ChunkExplanation(0, tuple(hits), read, 0.55), ChunkExplanation(7, (), (), 1.0))
    for event in (Explaining(3, 25), Explained(chunks), Explained(())):
        assert events.event_from_wire(events.event_to_wire(event)) == event
