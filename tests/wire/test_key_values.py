"""Key-values framed by hand are exactly the protobuf messages that the `.proto` files declare."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3.protos.memory3.v1.memory_service_pb2 import FetchKeyValuesResponse, PutKeyValuesRequest
from memory3.protos.memory3.v1.types_pb2 import KeyValues
from memory3.store.errors import InvalidArgument
from memory3.wire.key_values import (
    KeyValuesItem,
    PutKeyValues,
    batches,
    decode_fetched,
    decode_put,
    encode_fetched,
    encode_put,
)

ITEMS = st.lists(
    st.builds(
        KeyValuesItem,
        seq=st.integers(0, 2**64 - 1),
        values=st.none() | st.binary(max_size=300),
        shard=st.integers(0, 2**32 - 1),
    ),
    max_size=4,
)


def message_of(item: KeyValuesItem) -> KeyValues:
    message = KeyValues(seq=item.seq, shard=item.shard)
    if item.values is not None:
        message.values = item.values
    return message


@given(ITEMS)
def test_fetched_is_what_protobuf_writes_and_reads(items: list[KeyValuesItem]) -> None:
    written = FetchKeyValuesResponse(items=map(message_of, items)).SerializeToString()
    assert encode_fetched(items) == written
    assert decode_fetched(written) == items


@given(st.text(max_size=20), st.text(max_size=200), ITEMS)
def test_put_is_what_protobuf_writes_and_reads(collection: str, fingerprint: str, items: list[KeyValuesItem]) -> None:
    written = PutKeyValuesRequest(
        collection=collection, fingerprint=fingerprint, items=map(message_of, items)
    ).SerializeToString()
    put = PutKeyValues(collection, fingerprint, items)
    assert encode_put(put) == written
    assert decode_put(written) == put


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    for decode in (decode_fetched, decode_put):
        with suppress(InvalidArgument):
            decode(message)


def test_a_cut_message_is_refused() -> None:
    whole = encode_fetched([KeyValuesItem(7, b"x" * 100)])
    with pytest.raises(InvalidArgument, match=r"docs/wire\.md"):
        decode_fetched(whole[:-1])


def test_batches_stay_under_the_bound_unless_one_item_is_over_it() -> None:
    items = [KeyValuesItem(seq, b"x" * size) for seq, size in enumerate((4, 4, 4, 50, 1, 1))]
    assert [[item.seq for item in batch] for batch in batches(items, 10)] == [[0, 1], [2], [3], [4, 5]]
    assert list(batches([], 10)) == []
