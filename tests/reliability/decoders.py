"""Proof: every decoder of stored or travelling bytes takes what its encoder made, and refuses all else in our words."""

import fcntl
import json
import random
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from memory3.protos.memory3.v1 import memory_service_pb2 as pb
from memory3.store import format as fmt
from memory3.store.backup.manifest import MANIFEST, BackupFile, Manifest, read_manifest, write_manifest
from memory3.store.catalog import Catalog, read_catalog, write_catalog
from memory3.store.directory import DataDirectory
from memory3.store.disk.lock_file import server_address
from memory3.store.disk.seal import seal, unseal
from memory3.store.errors import Corrupted, FailedPrecondition, InvalidArgument, UnsupportedFormat
from memory3.store.filters.number_block import BLOCK, EMPTY, NumberBlock, Run, decode_numbers, encode_numbers
from memory3.store.filters.parser import filter_from_json, parse_filter
from memory3.store.filters.posting import Posting, decode_posting, encode_posting
from memory3.store.filters.roaring import CHUNK, positions_of
from memory3.store.filters.term_keys import (
    ALL_FIRST,
    ALL_LIVE,
    BOOLEAN,
    FIRST,
    LIVE,
    NAME,
    NUMBER,
    STRING,
    STRING_BYTES_KEPT,
    TermKey,
    boolean_term,
    decode_key,
    name_term,
    numbers_term,
    part_key,
    string_term,
)
from memory3.store.index.snapshot import Snapshot, decode_snapshot, write_snapshot
from memory3.store.metadata import decode_metadata, encode_metadata
from memory3.store.page_token import decode_page_token, encode_page_token
from memory3.store.types import CollectionBackup, CollectionInfo, IndexKind, MetadataValue
from memory3.wire.key_values import (
    KeyValuesItem,
    PutKeyValues,
    decode_fetched,
    decode_put,
    decode_recalled,
    encode_fetched,
    encode_put,
    encode_recalled,
)
from pyroaring import BitMap

from .codec import Codec
from .faults import folder_in_memory
from .loaders import loading_codecs, snapshot_resealed
from .mutation import mutated, reshuffled
from .outcome import Outcome

LETTERS = "abcXYZ 019._-äß日本\U0001f41d\n\t\0'\"{}"
VALID_SHARE = 0.2
VIOLATIONS_MAX = 20
SAMPLES = 200
FILE_SHARE = 20
"""Decoders that read a file get so many times fewer inputs than those that take bytes."""


def fuzz_decoders(inputs: int, seed: int = 0) -> Outcome:
    """Give `inputs` byte strings to the decoders, spread over all of them."""
    outcome = Outcome(
        "fuzz, decoders", "valid and mutated bytes into all that reads the disk, the wire, page tokens and users' files"
    )
    with tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder:
        codecs = codecs_in(Path(folder))
        shares = sum(1 / codec.share for codec in codecs.values())
        for name, codec in codecs.items():
            count = round(inputs / shares / codec.share) + 1
            outcome.violations += _fuzz(name, codec, count, random.Random(f"{seed} {name}"), outcome)
    return outcome.done()


def _fuzz(name: str, codec: Codec, inputs: int, choose: random.Random, outcome: Outcome) -> list[str]:
    wrong: list[str] = []
    values = [codec.make(choose) for _ in range(SAMPLES)]
    samples = [codec.encode(value) for value in values]
    for number in range(inputs):
        outcome.counts["inputs"] += 1
        place = choose.randrange(SAMPLES)
        valid = choose.random() < VALID_SHARE
        data = samples[place] if valid else codec.seeds(mutated(samples[place], choose))
        try:
            found = codec.decode(data)
            if valid and not codec.same(found, values[place]):
                wrong.append(f"{name}: {values[place]!r:.100} comes back as {found!r:.100}")
            outcome.counts["decoded"] += 1
        except codec.errors as error:
            outcome.counts["refused"] += 1
            if valid:
                wrong.append(f"{name}: {values[place]!r:.100} is refused: {error}")
        except Exception as error:
            wrong.append(f"{name}: input {number}, {data[:60]!r}, ends in {error!r}")
        if len(wrong) >= VIOLATIONS_MAX:
            break
    return wrong


def codecs_in(folder: Path) -> dict[str, Codec]:
    """Every pair of encoder and decoder; those of files work in `folder`."""
    identity = (Corrupted, UnsupportedFormat)
    return {
        "seq": Codec(_u64, fmt.encode_seq, fmt.decode_seq),
        "u64": Codec(_u64, fmt.encode_u64, fmt.decode_u64),
        "u32": Codec(_u32, fmt.encode_u32, fmt.decode_u32),
        "identity": Codec(_identity, fmt.encode_identity, fmt.decode_identity, identity),
        "document": Codec(_document, fmt.encode_document, fmt.decode_document),
        "memory": Codec(_memory, fmt.encode_memory, fmt.decode_memory),
        "vector": Codec(_vector, fmt.encode_vector, fmt.decode_vector),
        "change": Codec(_change, fmt.encode_change, fmt.decode_change),
        "mark": Codec(_mark, fmt.encode_mark, fmt.decode_mark),
        "time of expiry": Codec(_expiry, fmt.encode_expiry, fmt.decode_expiry),
        "answer": Codec(_answer, fmt.encode_answer, fmt.decode_answer),
        "request id": Codec(_text, fmt.encode_request_id, fmt.decode_request_id),
        "key of a term": Codec(_term, _encoded_term, decode_key),
        "posting": Codec(_posting, _encoded_posting, _decoded_posting),
        "block of numbers": Codec(_numbers, _encoded_numbers, lambda data: _plain_numbers(decode_numbers(data))),
        "filter": Codec(
            _filter,
            lambda filter: json.dumps(filter).encode(),
            lambda data: parse_filter(filter_from_json(data.decode("utf-8", "surrogateescape"))),
            (InvalidArgument,),
            same=lambda found, filter: bool(found == parse_filter(filter)),
        ),
        "filter, any JSON": Codec(
            _filter,
            lambda filter: json.dumps(filter).encode(),
            lambda data: parse_filter(filter_from_json(data.decode("utf-8", "surrogateescape"))),
            (InvalidArgument,),
            seeds=reshuffled,
            same=lambda found, filter: bool(found == parse_filter(filter)),
        ),
        "fingerprint": Codec(_fingerprint, fmt.encode_fingerprint, fmt.decode_fingerprint),
        "value key": Codec(lambda c: (_u32(c), _u64(c)), lambda v: fmt.encode_value_key(*v), fmt.decode_value_key),
        "metadata": Codec(_metadata, encode_metadata, decode_metadata),
        "seal": Codec(_bytes, lambda v: seal("values", b"key", v), lambda data: unseal("values", b"key", data)),
        "page token": Codec(
            lambda c: _text(c).encode(),
            lambda key: encode_page_token(key).encode(),
            lambda data: decode_page_token(data.decode("latin-1")),
            (InvalidArgument,),
        ),
        "put of key-values": Codec(_put, encode_put, decode_put, (InvalidArgument,)),
        "fetched key-values": Codec(_items, encode_fetched, decode_fetched, (InvalidArgument,)),
        "recalled key-values": Codec(_recalled, _encoded_recalled, decode_recalled, (InvalidArgument,)),
        "snapshot": Codec(_snapshot, lambda v: _written_snapshot(folder, v), _decoded_snapshot),
        "snapshot, checksums right": Codec(
            _snapshot, lambda v: _written_snapshot(folder, v), _decoded_snapshot, seeds=snapshot_resealed
        ),
        "catalog": Codec(_catalog, lambda v: _written(folder, v), lambda d: _read(folder, d), identity, FILE_SHARE),
        "catalog, checksum right": Codec(
            _catalog, lambda v: _written(folder, v), lambda d: _read(folder, d), identity, FILE_SHARE, _catalog_resealed
        ),
        "backup.json": Codec(
            _manifest, lambda v: _written_manifest(folder, v), lambda d: _read_manifest(folder, d), identity, FILE_SHARE
        ),
        "backup.json, checksum right": Codec(
            _manifest,
            lambda v: _written_manifest(folder, v),
            lambda d: _read_manifest(folder, d),
            identity,
            FILE_SHARE,
            _catalog_resealed,
        ),
        "format.json": Codec(
            lambda c: True,
            lambda v: _format_json(folder),
            lambda d: _opened(folder, d),
            (*identity, FailedPrecondition),
            FILE_SHARE,
        ),
        "server.json": Codec(_address, lambda v: _published(folder, v), _Served(folder).address, (), FILE_SHARE),
        **loading_codecs(folder),
    }


def _u64(choose: random.Random) -> int:
    return choose.choice([0, 1, (1 << 63) - 1, (1 << 64) - 1, choose.getrandbits(64)])


def _u32(choose: random.Random) -> int:
    return choose.choice([0, 1, (1 << 32) - 1, choose.getrandbits(32)])


def _text(choose: random.Random, least: int = 1) -> str:
    return "".join(choose.choices(LETTERS, k=choose.randint(least, 30)))


def _bytes(choose: random.Random) -> bytes:
    return choose.randbytes(choose.randrange(120))


def _time(choose: random.Random) -> float:
    return choose.choice([0.0, 1.7e9, choose.uniform(0, 1e12)])


def _metadata(choose: random.Random) -> dict[str, MetadataValue]:
    values: list[Callable[[], MetadataValue]] = [
        lambda: choose.random() < 0.5,
        lambda: choose.getrandbits(64) - (1 << 63),
        lambda: choose.uniform(-1e300, 1e300),
        lambda: _text(choose, 0),
    ]
    return {_text(choose): choose.choice(values)() for _ in range(choose.randrange(5))}


def _identity(choose: random.Random) -> fmt.Identity:
    return fmt.Identity(_text(choose), _text(choose), _text(choose), _text(choose), _u32(choose), _u32(choose))


def _document(choose: random.Random) -> fmt.DocumentRecord:
    first, memories = choose.randint(1, 1 << 62), choose.randint(1, 1 << 31)
    return fmt.DocumentRecord(first, memories, _time(choose), _time(choose), choose.randbytes(16), _metadata(choose))


def _memory(choose: random.Random) -> fmt.MemoryRecord:
    total = choose.randint(1, 1 << 31)
    return fmt.MemoryRecord(_text(choose), choose.randrange(total), total, _text(choose))


def _vector(choose: random.Random) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([choose.uniform(-1, 1) for _ in range(choose.randint(1, 40))], dtype=np.float32)


def _change(choose: random.Random) -> fmt.ChangeRecord:
    first = choose.randint(1, 1 << 40)
    forgotten = choose.choice([range(0), range(first, first + choose.randint(1, 1_000))])
    return fmt.ChangeRecord(choose.choice([fmt.WRITTEN, fmt.DELETED]), _time(choose), _text(choose), forgotten)


def _mark(choose: random.Random) -> fmt.Mark:
    return fmt.Mark(_time(choose), _bytes(choose), _text(choose))


def _fingerprint(choose: random.Random) -> fmt.FingerprintRecord:
    return fmt.FingerprintRecord(_u32(choose), _u32(choose), _u64(choose))


def _expiry(choose: random.Random) -> tuple[str, int]:
    return _text(choose), choose.randint(1, 1 << 31)


def _answer(choose: random.Random) -> tuple[bytes, Any]:
    results = [{"key": _text(choose), "version": _u64(choose)} for _ in range(choose.randrange(3))]
    return choose.randbytes(16), choose.choice([results, {"deleted": [_text(choose)], "memories": _u32(choose)}])


def _term(choose: random.Random) -> TermKey:
    kind, part = choose.choice([LIVE, NAME, STRING, BOOLEAN, NUMBER, FIRST]), choose.randrange(1 << 48)
    name = "" if kind in (LIVE, FIRST) else _text(choose)
    if kind == STRING:
        cut = choose.random() < 0.3
        size = STRING_BYTES_KEPT if cut else choose.randrange(STRING_BYTES_KEPT + 1)
        return TermKey(kind, name, bytes(choose.choices(b"\0\1\2\xffabc", k=size)), cut, part)
    value = choose.choice([b"\0", b"\1"]) if kind == BOOLEAN else b""
    return TermKey(kind, name, value, False, part)


def _encoded_term(term: TermKey) -> bytes:
    terms: dict[int, Callable[[], bytes]] = {
        LIVE: lambda: ALL_LIVE,
        FIRST: lambda: ALL_FIRST,
        NAME: lambda: name_term(term.name),
        NUMBER: lambda: numbers_term(term.name),
        BOOLEAN: lambda: boolean_term(term.name, term.value == b"\1"),
        STRING: lambda: string_term(term.name, term.value + (b"and more" if term.cut else b"")),
    }
    return part_key(terms[term.kind](), term.part)


def _posting(choose: random.Random) -> tuple[list[int], bytes | None]:
    """A posting as plain values, which can be compared: alone, a few, in runs, or more than are listed one by one."""
    positions: list[Callable[[], set[int]]] = [
        lambda: {choose.randrange(CHUNK)},
        lambda: {choose.randrange(CHUNK) for _ in range(choose.randint(1, 40))},
        lambda: set(range(start := choose.randrange(CHUNK - 99), start + choose.randint(1, 99))),
        lambda: set(choose.sample(range(CHUNK), 5_000)) if choose.random() < 0.05 else {0, CHUNK - 1},
    ]
    return sorted(choose.choice(positions)()), choose.choice([None, _text(choose).encode()])


def _encoded_posting(plain: tuple[list[int], bytes | None]) -> bytes:
    positions, string = plain
    return encode_posting(Posting(BitMap(positions), string))


def _decoded_posting(data: bytes) -> tuple[list[int], bytes | None]:
    posting = decode_posting(data)
    return positions_of(posting.bitmap).tolist(), posting.string


def _numbers(choose: random.Random) -> list[tuple[int, int | float]]:
    """Positions in a block with their numbers."""
    kinds: list[Callable[[], int | float]] = [
        lambda: choose.randint(-5, 5),
        lambda: choose.uniform(-1e9, 1e9),
        lambda: choose.getrandbits(63) - (1 << 62),
    ]
    positions = sorted(choose.sample(range(BLOCK), choose.randint(1, 20)))
    return [(position, choose.choice(kinds)()) for position in positions]


def _encoded_numbers(numbers: list[tuple[int, int | float]]) -> bytes:
    runs: list[Run] = [(position, position + 1, number) for position, number in numbers]
    return encode_numbers(EMPTY.changed(runs))


def _plain_numbers(block: NumberBlock) -> list[tuple[int, int | float]]:
    rests = [0] * len(block) if block.rests is None else block.rests.tolist()
    # A float that an integer was rounded to is one itself.
    return [
        (position, int(number) + rest if number.is_integer() else number)
        for position, number, rest in zip(block.positions.tolist(), block.floats.tolist(), rests, strict=True)
    ]


def _filter(choose: random.Random, depth: int = 0) -> dict[str, Any]:
    """A filter as callers write it, of all kinds of conditions."""
    name, value = _text(choose).replace("$", "S"), choose.choice([_text(choose, 0), choose.randint(-9, 9), 2.5])
    ways: list[Callable[[], dict[str, Any]]] = [
        lambda: {name: choose.choice([value, True])},
        lambda: {name: {choose.choice(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]): value}},
        lambda: {name: {choose.choice(["$in", "$nin"]): [value, False, _text(choose)]}},
        lambda: {name: {"$exists": choose.random() < 0.5, "$not": {"$gte": 1, "$lt": 9}}},
    ]
    if depth < 3:
        ways += [
            lambda: {choose.choice(["$and", "$or"]): [_filter(choose, depth + 1) for _ in range(2)]},
            lambda: {"$not": _filter(choose, depth + 1), name: value},
        ]
    return choose.choice(ways)()


def _recalled(choose: random.Random) -> tuple[list[bytes], list[KeyValuesItem]]:
    hits = [pb.Hits(missing_shards=[_u32(choose)]).SerializeToString() for _ in range(choose.randrange(3))]
    return hits, _items(choose)


def _encoded_recalled(recalled: tuple[list[bytes], list[KeyValuesItem]]) -> bytes:
    hits, items = recalled
    results = pb.RecallResponse(results=map(pb.Hits.FromString, hits)).SerializeToString()
    return encode_recalled(results, items)


def _manifest(choose: random.Random) -> Manifest:
    collections = [
        CollectionBackup(_text(choose), _u32(choose), _u32(choose), tuple(_u64(choose) for _ in range(2)))
        for _ in range(choose.randrange(3))
    ]
    files = [
        BackupFile(f"data/{number}", _u32(choose), choose.randbytes(16).hex()) for number in range(choose.randrange(3))
    ]
    return Manifest(_time(choose), tuple(collections), tuple(files))


def _written_manifest(folder: Path, manifest: Manifest) -> bytes:
    write_manifest(folder, manifest)
    return (folder / MANIFEST).read_bytes()


def _read_manifest(folder: Path, data: bytes) -> Manifest:
    (folder / MANIFEST).write_bytes(data)
    return read_manifest(folder)


def _items(choose: random.Random) -> list[KeyValuesItem]:
    values = [choose.choice([None, b"", _bytes(choose)]) for _ in range(choose.randrange(4))]
    return [KeyValuesItem(_u64(choose), value, _u32(choose)) for value in values]


def _put(choose: random.Random) -> PutKeyValues:
    return PutKeyValues(_text(choose, 0), _text(choose, 0), _items(choose))


def _snapshot(choose: random.Random) -> tuple[Any, ...]:
    """A snapshot as plain values, which can be compared."""
    kind, dimension = choose.choice(list(IndexKind)), choose.randint(1, 4)
    exact = kind is IndexKind.EXACT
    lists, code_bytes = (1, 4 * dimension) if exact else (choose.randint(1, 3), dimension)
    slices = []
    for _ in range(choose.randrange(4)):
        entries = choose.randint(1, 3)
        ids = [choose.randrange(1 << 48) for _ in range(entries)]
        slices.append((choose.randrange(lists), ids, [list(choose.randbytes(code_bytes)) for _ in ids]))

    def floats(rows: int) -> list[list[float]]:
        return [[0.0 if exact else choose.randrange(1 << 20) / 64 for _ in range(dimension)] for _ in range(rows)]

    shard_id, base, seq, at = choose.randbytes(16).hex(), _u64(choose), _u64(choose), _u64(choose)
    return kind, dimension, shard_id, base, seq, at, code_bytes, floats(lists), floats(2), slices


def _written_snapshot(folder: Path, plain: tuple[Any, ...]) -> bytes:
    kind, dimension, shard_id, base, seq, at, code_bytes, centroids, ranges, slices = plain
    floats = np.array(centroids, np.float32), np.array(ranges, np.float32)
    arrays = [(number, np.array(ids, np.int64), np.array(codes, np.uint8)) for number, ids, codes in slices]
    snapshot = Snapshot(kind, dimension, shard_id, base, seq, at, code_bytes, *floats, arrays)
    write_snapshot(folder / "index.snapshot", snapshot)
    return (folder / "index.snapshot").read_bytes()


def _decoded_snapshot(data: bytes) -> tuple[Any, ...]:
    found = decode_snapshot(BytesIO(data), len(data))
    head = found.kind, found.dimension, found.shard_id, found.base, found.seq, found.clustered_at, found.code_bytes
    slices = [(number, ids.tolist(), codes.tolist()) for number, ids, codes in found.slices]
    return *head, found.centroids.tolist(), found.ranges.tolist(), slices


def _catalog(choose: random.Random) -> Catalog:
    infos = [CollectionInfo(_text(choose), _text(choose), _u32(choose)) for _ in range(choose.randrange(4))]
    return Catalog(_u32(choose), {info.name: (info, _u32(choose)) for info in infos})


def _written(folder: Path, catalog: Catalog) -> bytes:
    write_catalog(folder / "catalog.json", catalog)
    return (folder / "catalog.json").read_bytes()


def _read(folder: Path, data: bytes) -> Catalog:
    (folder / "catalog.json").write_bytes(data)
    return read_catalog(folder / "catalog.json")


def _catalog_resealed(data: bytes) -> bytes:
    """Give a mutated catalog the checksum of its fields, as far as it has fields."""
    try:
        fields = json.loads(data)
        fields.pop("checksum", None)
        plain = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        return json.dumps({**fields, "checksum": xxhash.xxh3_64_hexdigest(plain)}).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return data


def _format_json(folder: Path) -> bytes:
    with DataDirectory.open(folder / "data"):
        return (folder / "data" / "format.json").read_bytes()


def _opened(folder: Path, data: bytes) -> bool:
    (folder / "data" / "format.json").write_bytes(data)
    with DataDirectory.open(folder / "data"):
        return True


def _address(choose: random.Random) -> str:
    return f"{_text(choose)}:{choose.randrange(1 << 16)}"


def _published(folder: Path, address: str) -> bytes:
    return json.dumps({"address": address, "pid": 1, "started_at": 1.0}).encode()


class _Served:
    """A `server.json` that counts, because its writer holds it; no reader may fail on what stands in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held = open(folder / "server.json", "w+b")  # noqa: SIM115  # held as long as the folder is used
        fcntl.flock(self._held, fcntl.LOCK_EX)

    def address(self, data: bytes) -> str | None:
        (self._folder / "server.json").write_bytes(data)
        return server_address(self._folder)
