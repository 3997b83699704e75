"""What callers may send: every check of input, before anything is embedded, locked or written.

Each function raises InvalidArgument with the name of what is wrong, the size found and the size allowed.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from . import limits
from .errors import InvalidArgument
from .metadata import encode_metadata
from .types import CollectionInfo, Document, EmbeddedDocument, Metadata, MetadataValue

_COLLECTION_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{limits.COLLECTION_NAME_MAX}}}")


def check_collection(info: CollectionInfo) -> None:
    check_collection_name(info.name)
    if not isinstance(info.embedder, str) or not 1 <= len(info.embedder) <= limits.EMBEDDER_NAME_MAX:
        raise InvalidArgument(f"the embedder's name must have 1 to {limits.EMBEDDER_NAME_MAX} characters")
    _utf8(info.embedder, "the embedder's name")
    _check_range(info.dimension, limits.DIMENSION_MAX, "dimension")
    _check_range(info.shards, limits.SHARDS_MAX, "shards")


def check_collection_name(name: str) -> None:
    if not isinstance(name, str) or not _COLLECTION_NAME.fullmatch(name):
        raise InvalidArgument(
            f"collection name {name!r:.100} must be 1 to {limits.COLLECTION_NAME_MAX} of A-Z, a-z, 0-9, _ and -"
        )


def check_documents(documents: Sequence[Document]) -> None:
    """Check documents before they are embedded: keys, texts, metadata, sizes, and that no key comes twice."""
    _check_count(len(documents), limits.UPSERT_DOCUMENTS_MAX, "documents in one call")
    seen: set[str] = set()
    total = 0
    for document in documents:
        check_key(document.key)
        if document.key in seen:
            raise InvalidArgument(f"key {document.key!r} comes twice in one call; send each key once")
        seen.add(document.key)
        total += check_text(document)
        check_expiry(document)
        check_metadata(document.key, document.metadata)
    _check_count(total, limits.UPSERT_BYTES_MAX, "bytes of text in one call")


def check_embedded(documents: Sequence[EmbeddedDocument], dimension: int) -> None:
    """Check documents with their references: all of `check_documents`, the cut and every vector."""
    check_documents([embedded.document for embedded in documents])
    for embedded in documents:
        key = embedded.document.key
        _check_count(len(embedded.references), limits.REFERENCES_MAX, f"references of document {key!r}")
        if not all(reference.text for reference in embedded.references):
            raise InvalidArgument(f"document {key!r} has a reference without text")
        if "".join(reference.text for reference in embedded.references) != embedded.document.text:
            raise InvalidArgument(f"the references of document {key!r} do not join to its text")
        for ordinal, reference in enumerate(embedded.references):
            if not isinstance(reference.vector, np.ndarray) or reference.vector.shape != (dimension,):
                shape = np.shape(reference.vector)
                raise InvalidArgument(f"document {key!r}: vector {ordinal} has shape {shape}, expected ({dimension},)")
            if reference.vector.dtype != np.float32:
                dtype = reference.vector.dtype
                raise InvalidArgument(f"document {key!r}: vector {ordinal} has dtype {dtype}, expected float32")
        vectors = np.stack([reference.vector for reference in embedded.references])
        check_vectors(vectors, dimension, f"document {key!r}: vector")


def check_key(key: str) -> bytes:
    """Return the key as bytes."""
    if not isinstance(key, str) or not key:
        raise InvalidArgument(f"a key must be text and not empty, got {key!r:.100}")
    encoded = _utf8(key, "key")
    if len(encoded) > limits.KEY_BYTES_MAX:
        raise InvalidArgument(f"key {key[:40]!r}… has {len(encoded)} bytes, at most {limits.KEY_BYTES_MAX} are allowed")
    if b"\0" in encoded:
        raise InvalidArgument(f"key {key!r} holds a NUL character")
    return encoded


def check_keys(keys: Sequence[str]) -> list[bytes]:
    """Return the keys as bytes."""
    if isinstance(keys, str):
        raise InvalidArgument("keys must be a list of texts, not one text")
    _check_count(len(keys), limits.KEYS_MAX, "keys in one call")
    return [check_key(key) for key in keys]


def check_text(document: Document) -> int:
    """Return the size of the document's text in bytes."""
    if not isinstance(document.text, str) or not document.text:
        raise InvalidArgument(f"the text of document {document.key!r} is empty")
    size = len(_utf8(document.text, f"the text of document {document.key!r}"))
    if size > limits.TEXT_BYTES_MAX:
        raise InvalidArgument(
            f"the text of document {document.key!r} has {size} bytes, at most {limits.TEXT_BYTES_MAX} are allowed"
        )
    return size


def check_expiry(document: Document) -> None:
    """Check that a document's time of expiry is a time of this era in seconds, not a duration or milliseconds."""
    at = document.expires_at
    if at is None:
        return
    if isinstance(at, bool) or not isinstance(at, int | float) or not limits.TIME_MIN <= at <= limits.TIME_MAX:
        raise InvalidArgument(
            f"expires_at of document {document.key!r} is {at!r:.100}; give seconds since the epoch, as time.time() + 60"
        )


def check_request_id(request_id: str, most: int = limits.REQUEST_ID_BYTES_MAX) -> None:
    if not isinstance(request_id, str) or not request_id:
        raise InvalidArgument(f"a request_id must be text and not empty, got {request_id!r:.100}")
    size = len(_utf8(request_id, "request_id"))
    if size > most:
        raise InvalidArgument(f"a request_id of {size} bytes, at most {most} are allowed")


def check_versions(versions: Mapping[str, int], keys: Iterable[str]) -> None:
    """Check expected versions, which must be of keys in the same call."""
    if not isinstance(versions, Mapping):
        raise InvalidArgument(f"expected versions must map keys to versions, got {type(versions).__name__}")
    for key in versions.keys() - set(keys):
        raise InvalidArgument(f"a version is expected of key {key!r:.100}, which is not in this call")
    for key, version in versions.items():
        if not _is_int(version) or not 0 <= version < 1 << 63:
            raise InvalidArgument(f"the version expected of {key!r} is {version!r:.100}; give one, or 0 for none")


def check_metadata(key: str, metadata: Metadata) -> None:
    of = f"metadata of document {key!r}"
    if not isinstance(metadata, Mapping):
        raise InvalidArgument(f"{of} must map names to values, got {type(metadata).__name__}")
    _check_count(len(metadata), limits.METADATA_ENTRIES_MAX, f"entries in {of}")
    for name, value in metadata.items():
        if not isinstance(name, str) or not name:
            raise InvalidArgument(f"{of}: a name must be text and not empty, got {name!r:.100}")
        if len(_utf8(name, f"{of}: a name")) > limits.METADATA_KEY_BYTES_MAX:
            raise InvalidArgument(f"{of}: name {name[:40]!r}… is over {limits.METADATA_KEY_BYTES_MAX} bytes")
        _check_metadata_value(f"{of}: {name!r}", value)
    _check_count(len(encode_metadata(metadata)), limits.METADATA_BYTES_MAX, f"bytes of {of}")


def check_vectors(vectors: npt.NDArray[np.float32], dimension: int, what: str) -> None:
    """Check vectors, shape (N, D), float32: finite, and of length one within `VECTOR_NORM_TOLERANCE`."""
    if vectors.dtype != np.float32:
        raise InvalidArgument(f"{what} has dtype {vectors.dtype}, expected float32")
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise InvalidArgument(f"{what} has shape {vectors.shape}, expected (N, {dimension})")
    # Row by row: for the few vectors of a call that is quicker than arrays of them are. By `vdot`, because `@` would
    # warn of numbers that are too large.
    if all(abs(float(np.vdot(row, row)) - 1) <= limits.VECTOR_NORM_TOLERANCE for row in vectors):
        return
    # float64, so that the squares of large values do not overflow into a misleading message.
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    for row in np.flatnonzero(~(np.abs(norms - 1) <= limits.VECTOR_NORM_TOLERANCE))[:1]:
        if not np.isfinite(norms[row]):
            raise InvalidArgument(f"{what} {row} holds NaN or infinity")
        raise InvalidArgument(
            f"{what} {row} has length {norms[row]:.6g}, expected 1 within {limits.VECTOR_NORM_TOLERANCE}; normalise it"
        )


def check_queries(vectors: npt.NDArray[np.float32], dimension: int, k: int) -> None:
    if not isinstance(vectors, np.ndarray):
        raise InvalidArgument(f"queries must be an array of shape (N, {dimension}), got {type(vectors).__name__}")
    check_vectors(vectors, dimension, "query")
    _check_count(len(vectors), limits.RECALL_QUERIES_MAX, "queries in one call")
    _check_range(k, limits.RECALL_K_MAX, "k")


def check_recalled_key_values(queries: int, k: int) -> None:
    """Check that the key-values of so many hits may come in one answer."""
    if queries * k > limits.RECALL_KEY_VALUES_MAX:
        raise InvalidArgument(
            f"{queries} queries of {k} memories each with their key-values, at most {limits.RECALL_KEY_VALUES_MAX} "
            "in one call are allowed; ask in several calls, or fetch key-values by seq"
        )


def check_seqs(seqs: Sequence[int]) -> None:
    _check_count(len(seqs), limits.SEQS_MAX, "seqs in one call")
    for seq in seqs:
        check_seq(seq)


def check_seq(seq: int) -> None:
    if not _is_int(seq) or not 0 <= seq < 1 << 63:
        raise InvalidArgument(f"seq {seq!r} must be an integer from 0 to 2**63 - 1")


def check_limit(limit: int, most: int) -> None:
    _check_range(limit, most, "limit")


def check_most_read(number: int) -> None:
    _check_range(number, limits.MOST_READ_MAX, "most_read", least=0)


def check_fingerprint(fingerprint: str) -> bytes:
    """Return the fingerprint as bytes."""
    if not isinstance(fingerprint, str) or not fingerprint:
        raise InvalidArgument(f"a fingerprint must be text and not empty, got {fingerprint!r:.100}")
    encoded = _utf8(fingerprint, "fingerprint")
    if len(encoded) > limits.FINGERPRINT_BYTES_MAX:
        raise InvalidArgument(
            f"fingerprint {fingerprint[:40]!r}… has {len(encoded)} bytes, "
            f"at most {limits.FINGERPRINT_BYTES_MAX} are allowed"
        )
    return encoded


def check_key_values(seq: int, value: bytes) -> None:
    check_seq(seq)
    if not isinstance(value, bytes | bytearray | memoryview):
        raise InvalidArgument(f"key-values of seq {seq} must be bytes, got {type(value).__name__}")
    _check_range(len(value), limits.KEY_VALUE_BYTES_MAX, f"bytes of the key-values of seq {seq}")


def _check_metadata_value(what: str, value: MetadataValue) -> None:
    if isinstance(value, str):
        _utf8(value, what)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArgument(f"{what} is {value}, a float must be finite")
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise InvalidArgument(f"{what} is {value}, an integer must fit 64 bits")
    else:
        raise InvalidArgument(f"{what} is a {type(value).__name__}, allowed are str, int, float and bool")


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{what} holds half a surrogate pair at {error.start}, which is no text") from error


def _check_count(count: int, most: int, what: str) -> None:
    if count > most:
        raise InvalidArgument(f"{count} {what}, at most {most} are allowed")


def _check_range(number: int, most: int, what: str, least: int = 1) -> None:
    if not _is_int(number) or not least <= number <= most:
        raise InvalidArgument(f"{what} is {number!r:.100}, allowed are {least} to {most}")


def _is_int(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
