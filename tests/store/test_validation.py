import numpy as np
import pytest
from memory3.store import limits, validation
from memory3.store.errors import InvalidArgument
from memory3.store.types import Document, EmbeddedDocument, Reference

from .builders import DIMENSION, embedded, vector_of


@pytest.mark.parametrize("key", ["a", "Zoë", "x" * 511, " ", "a/b\n"])
def test_good_keys_pass(key: str) -> None:
    assert validation.check_key(key) == key.encode()


@pytest.mark.parametrize(
    ("key", "said"),
    [("", "not empty"), ("x" * 512, "512 bytes"), ("é" * 256, "512 bytes"), ("a\0b", "NUL"), ("\ud800", "surrogate")],
)
def test_bad_keys_are_refused(key: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        validation.check_key(key)


def test_keys_must_be_a_list() -> None:
    with pytest.raises(InvalidArgument, match="not one text"):
        validation.check_keys("key")
    with pytest.raises(InvalidArgument, match="got 5"):
        validation.check_keys([5])  # type: ignore[list-item]
    with pytest.raises(InvalidArgument, match="at most 10000"):
        validation.check_keys(["k"] * 10_001)


@pytest.mark.parametrize(("text", "said"), [("", "empty"), ("ok \udfff", "surrogate pair at 3")])
def test_bad_texts_are_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=f"'key'.*{said}"):
        validation.check_documents([Document("key", text)])


def test_a_text_may_be_as_large_as_allowed_and_no_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TEXT_BYTES_MAX", 10)
    validation.check_documents([Document("key", "é" * 5)])
    with pytest.raises(InvalidArgument, match="has 11 bytes, at most 10"):
        validation.check_documents([Document("key", "é" * 5 + "x")])
    monkeypatch.setattr(limits, "UPSERT_BYTES_MAX", 15)
    with pytest.raises(InvalidArgument, match="20 bytes of text in one call"):
        validation.check_documents([Document("a", "x" * 10), Document("b", "x" * 10)])


@pytest.mark.parametrize(
    "metadata", [{}, {"a": 1, "b": 1.5, "c": True, "d": ""}, {"n": -(1 << 63), "m": (1 << 63) - 1}]
)
def test_good_metadata_passes(metadata: dict[str, object]) -> None:
    validation.check_documents([Document("key", "text", metadata)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"a": None}, "'a' is a NoneType"),
        ({"a": [1]}, "'a' is a list"),
        ({"a": float("nan")}, "finite"),
        ({"a": float("inf")}, "finite"),
        ({"a": 1 << 63}, "64 bits"),
        ({"a": "\ud800"}, "surrogate"),
        ({"": 1}, "not empty"),
        ({1: 1}, "got 1"),
        ({"\ud800": 1}, "surrogate"),
        ({"x" * 129: 1}, "over 128 bytes"),
        ({str(i): i for i in range(65)}, "65 entries"),
        ({"a": "x" * (64 << 10)}, "65546 bytes of metadata"),
        ([("a", 1)], "must map names to values"),
    ],
)
def test_bad_metadata_is_refused_with_the_key_of_its_document(metadata: object, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as caught:
        validation.check_documents([Document("key", "text", metadata)])  # type: ignore[arg-type]
    assert "'key'" in str(caught.value)


def test_a_key_that_comes_twice_is_named() -> None:
    with pytest.raises(InvalidArgument, match="'two' comes twice"):
        validation.check_documents([Document("one", "a"), Document("two", "b"), Document("two", "c")])


def test_too_many_documents_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPSERT_DOCUMENTS_MAX", 1)
    with pytest.raises(InvalidArgument, match="2 documents in one call, at most 1"):
        validation.check_documents([Document("one", "a"), Document("two", "b")])


def with_vector(vector: object) -> list[EmbeddedDocument]:
    good = Reference("one ", vector_of("one "))
    bad = Reference("two", vector)  # type: ignore[arg-type]
    return [embedded("fine", "text"), EmbeddedDocument(Document("key", "one two"), [good, bad])]


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (vector_of("x", 15), r"shape \(15,\), expected \(16,\)"),
        (vector_of("x")[None], r"shape \(1, 16\), expected \(16,\)"),
        (vector_of("x").astype(np.float64), "dtype float64, expected float32"),
        (vector_of("x").astype(np.float16), "dtype float16, expected float32"),
        (vector_of("x").tolist(), r"shape \(16,\)"),
        (np.full(DIMENSION, np.nan, np.float32), "NaN"),
        (np.full(DIMENSION, np.inf, np.float32), "NaN or infinity"),
        (np.full(DIMENSION, 1e30, np.float32), r"length 4e\+30, expected 1"),
        (np.zeros(DIMENSION, np.float32), "length 0, expected 1"),
        (vector_of("x") * np.float32(1.01), "length 1.01, expected 1 within 0.001"),
        (None, "expected"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_bad_vector_is_named_with_what_was_expected(vector: object, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as caught:
        validation.check_embedded(with_vector(vector), DIMENSION)
    assert "document 'key': vector 1" in str(caught.value)


def test_a_nearly_normal_vector_passes() -> None:
    validation.check_embedded(with_vector(vector_of("x") * np.float32(1.0005)), DIMENSION)


@pytest.mark.parametrize("texts", [["one"], ["one", "twoX"], ["two", "one"], []])
def test_references_must_join_to_the_text(texts: list[str]) -> None:
    references = [Reference(text, vector_of(text)) for text in texts]
    with pytest.raises(InvalidArgument, match="'key' do not join"):
        validation.check_embedded([EmbeddedDocument(Document("key", "onetwo"), references)], DIMENSION)


def test_a_reference_without_text_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="'key' has a reference without text"):
        validation.check_embedded([embedded("key", "one", "", "two")], DIMENSION)


@pytest.mark.parametrize(
    ("queries", "k", "said"),
    [
        (vector_of("x"), 5, "shape"),
        (vector_of("x", 3)[None], 5, r"shape \(1, 3\), expected \(N, 16\)"),
        (vector_of("x")[None].astype(np.float64), 5, "float64"),
        (np.full((1, DIMENSION), np.nan, np.float32), 5, "NaN"),
        (np.zeros((1, DIMENSION), np.float32), 5, "length 0"),
        (vector_of("x")[None], 0, "k is 0, allowed are 1 to 1000"),
        (vector_of("x")[None], 1001, "k is 1001"),
        (vector_of("x")[None], 2.0, "k is 2.0"),
        (vector_of("x")[None], True, "k is True"),
        ([[1.0]], 5, "got list"),
        (np.repeat(vector_of("x")[None], 1025, axis=0), 5, "at most 1024"),
    ],
)
def test_bad_queries_are_refused(queries: np.ndarray, k: int, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        validation.check_queries(queries, DIMENSION, k)


@pytest.mark.parametrize(
    ("fingerprint", "said"), [("", "not empty"), ("x" * 129, "129 bytes"), ("\ud800", "surrogate")]
)
def test_bad_fingerprints_are_refused(fingerprint: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        validation.check_fingerprint(fingerprint)


@pytest.mark.parametrize("seq", [-1, 1 << 63, 1.0, "1", None, True])
def test_bad_seqs_are_refused(seq: int) -> None:
    with pytest.raises(InvalidArgument, match="seq"):
        validation.check_seqs([seq])


@pytest.mark.parametrize(("value", "said"), [(b"", "0"), ("text", "got str"), (None, "got NoneType")])
def test_bad_key_values_are_refused(value: bytes, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        validation.check_key_values(1, value)
