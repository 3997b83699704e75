import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3.store.errors import Corrupted
from memory3.store.metadata import content_digest, decode_metadata, encode_metadata
from memory3.store.types import Document

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
values = (
    st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
)
metadatas = st.dictionaries(names, values, max_size=8)


@given(metadatas)
def test_metadata_comes_back_with_its_types(metadata: dict[str, str | int | float | bool]) -> None:
    found = decode_metadata(encode_metadata(metadata))
    assert found == metadata
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in metadata.items()
    }


@given(metadatas, st.data())
def test_cut_or_longer_metadata_is_corrupted(metadata: dict[str, str], data: st.DataObject) -> None:
    encoded = encode_metadata(metadata)
    with pytest.raises(Corrupted):
        decode_metadata(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    with pytest.raises(Corrupted):
        decode_metadata(encoded + data.draw(st.binary(min_size=1, max_size=9)))


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_corrupted(encoded: bytes) -> None:
    try:
        found = decode_metadata(encoded)
    except Corrupted:
        return
    assert isinstance(found, dict)


def test_the_order_of_entries_does_not_matter() -> None:
    assert encode_metadata({"a": 1, "b": 2}) == encode_metadata({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Document("k", "text", {"a": 1}), Document("k", "text", {"a": True})),
        (Document("k", "text", {"a": 1}), Document("k", "text", {"a": 1.0})),
        (Document("k", "text", {"a": "1"}), Document("k", "text", {"a": 1})),
        (Document("k", "text", {"a": ""}), Document("k", "text", {})),
        (Document("k", "text"), Document("k", "text ")),
        (Document("k", "a", {"a": 0.0}), Document("k", "a", {"a": -0.0})),
    ],
)
def test_other_content_has_another_digest(one: Document, other: Document) -> None:
    assert content_digest(one, "e") != content_digest(other, "e")


def test_the_digest_knows_the_embedder_and_not_the_key() -> None:
    assert content_digest(Document("a", "text"), "e") == content_digest(Document("b", "text"), "e")
    assert content_digest(Document("a", "text"), "e") != content_digest(Document("a", "text"), "f")
    assert math.copysign(1, float(decode_metadata(encode_metadata({"z": -0.0}))["z"])) == -1
