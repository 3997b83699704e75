"""Codecs of what is read into more than a value: an index, a table, the files of a model and those of users."""

import json
import math
import mmap
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
import xxhash
from memory3.commands.sources import Bad, documents_of_files, files_of
from memory3.model.codebooks import FILE, Codebooks, stage_bits
from memory3.model.evaluation.exam import load_exam
from memory3.model.key_values import KeyValueForm
from memory3.model.layout import STORED, MemoryLayout
from memory3.protos.memory3.v1 import types_pb2 as pb
from memory3.store.disk.environment import DATA_FILE, Environment
from memory3.store.disk.free_pages import bytes_freed_since
from memory3.store.disk.lock_file import DirectoryLock
from memory3.store.disk.meta_pages import check_meta_pages
from memory3.store.disk.page_check import look_at
from memory3.store.disk.quarantine import Quarantine
from memory3.store.disk.seal import Damaged, seal
from memory3.store.errors import Corrupted, InvalidArgument, Memory3Error
from memory3.store.expiry import Entry, Expiry
from memory3.store.format import Identity, encode_expiry, encode_seq
from memory3.store.index.clustering import clustered, plan
from memory3.store.index.snapshot import read_snapshot, write_snapshot
from memory3.store.index.vector_index import VectorIndex
from memory3.store.records import Records
from memory3.store.seqs import base_of
from memory3.store.shard.derived import at_once
from memory3.store.types import IndexKind, Vector
from memory3.wire.convert import vectors_from_wire

from .codec import Codec
from .content import DIMENSION, EMBEDDER, vector_of, vectors_of
from .mutation import reshuffled

SHARE = 5
"""Each of them gets so many times fewer inputs than a decoder that takes bytes and makes a value."""
META_BYTES = 152
"""Of a meta page, its header included, those that say anything."""
SHARD_ID = "5f" * 16
BASE = base_of(3)
KEPT, HEAD_SIZE = 2, 4
PAGE = "<html><head><title>A page</title><style>p {}</style></head><body><p>A <b>text</b>.<p>&eacute;</body></html>"
CPU = torch.device("cpu")


def loading_codecs(folder: Path) -> dict[str, Codec]:
    """Every one of them; files lie in `folder`."""
    expiry, vectors = _Expiry(folder / "expiry"), _Vectors(folder / "vectors")
    saved, exam = folder / "saved.snapshot", folder / "exam.json"
    lines, page = folder / "lines.jsonl", folder / "page.html"
    return {
        "meta pages": _loading(
            lambda c: c.randrange(5),
            lambda commits: _meta_pages(folder / f"commits-{commits}", commits),
            lambda data: _check_meta_pages(folder / DATA_FILE, data),
            same=lambda _, commits: True,
        ),
        "free pages": _loading(
            lambda c: c.randrange(2, 6),
            lambda commits: _file(folder / f"commits-{commits}", commits),
            lambda data: _freed(folder / DATA_FILE, data),
            same=lambda freed, _: freed > 0,
        ),
        "pages": _loading(
            lambda c: c.randrange(5),
            lambda commits: _file(folder / f"commits-{commits}", commits),
            lambda data: _fit(folder / DATA_FILE, data),
            same=lambda _, commits: True,
        ),
        "index": _loading(_index, lambda v: _saved_index(saved, v), lambda d: _loaded_index(saved, d)),
        "index, checksums right": _loading(
            _index, lambda v: _saved_index(saved, v), lambda d: _loaded_index(saved, d), seeds=snapshot_resealed
        ),
        "expiry": _loading(_entry, expiry.encode, expiry.decode),
        "expiry, checksum right": _loading(_entry, expiry.encode, expiry.decode, seeds=expiry.resealed),
        "vectors of a table": _loading(lambda c: _row(c, DIMENSION), np.ndarray.tobytes, vectors.decode),
        "openings": _loading(
            lambda c: c.choice([0, 1, 2, c.randrange(1_000_000_000)]),
            lambda openings: b"%d" % openings if openings else b"",
            lambda data: _openings(folder / "locked", data),
            (),
        ),
        **{f"key-values, {stored}": _key_values(stored) for stored in STORED},
        "codebooks": _loading(
            _codebooks,
            lambda v: _saved_codebooks(folder, v),
            lambda d: _loaded_codebooks(folder, d),
            (InvalidArgument,),
        ),
        "codebooks, other types": _loading(
            _codebooks,
            lambda v: _saved_codebooks(folder, v),
            lambda d: _loaded_codebooks(folder, d),
            (InvalidArgument,),
            seeds=_retyped,
        ),
        "vectors of a message": Codec(
            lambda c: np.stack([_row(c, 3) for _ in range(c.randint(1, 3))]),
            lambda rows: bytes([len(rows)]) + rows.tobytes(),
            _vectors_of_message,
            (InvalidArgument,),
        ),
        "exam": _loading(_exam, _json, lambda d: _loaded_exam(exam, d), (InvalidArgument,)),
        "exam, any JSON": _loading(_exam, _json, lambda d: _loaded_exam(exam, d), (InvalidArgument,), seeds=reshuffled),
        "lines": _loading(_lines, _joined, lambda d: _documents(lines, d), (InvalidArgument,)),
        "lines, any JSON": _loading(
            _lines, _joined, lambda d: _documents(lines, d), (InvalidArgument,), seeds=_lines_reshuffled
        ),
        "page": _loading(
            lambda c: PAGE,
            str.encode,
            lambda d: _documents(page, d),
            (InvalidArgument,),
            same=lambda found, _: len(found) == 1,
        ),
    }


def snapshot_resealed(data: bytes) -> bytes:
    """Give a mutated snapshot the checksums of its bytes (docs/format.md), so that what lies behind them is reached."""
    head, rest = data[:64].ljust(64, b"\0"), data[72:]
    dimension, lists, code_bytes = (int.from_bytes(head[at : at + 4], "little") for at in (12, 56, 60))
    pieces = [head, xxhash.xxh3_64_intdigest(head).to_bytes(8, "little")]
    for ordinal in range(64):
        kind, entries = int.from_bytes(rest[:4], "little"), int.from_bytes(rest[8:16], "little")
        size = 16 + {1: lists * dimension * 4, 2: 2 * dimension * 4, 3: entries * (8 + code_bytes)}.get(kind, 0)
        if len(rest) < size + 8:
            break
        pieces += [rest[:size], xxhash.xxh3_64_intdigest(rest[:size], seed=ordinal).to_bytes(8, "little")]
        rest = rest[size + 8 :]
    return b"".join([*pieces, rest])


def _loading(
    make: Callable[[random.Random], Any],
    encode: Callable[[Any], bytes],
    decode: Callable[[bytes], Any],
    errors: tuple[type[Memory3Error], ...] = (Corrupted,),
    **more: Any,
) -> Codec:
    return Codec(make, encode, decode, errors, SHARE, **more)


def _row(choose: random.Random, size: int) -> Vector:
    return np.array([choose.uniform(-1, 1) for _ in range(size)], np.float32)


def _file(path: Path, commits: int) -> bytes:
    """The file of an environment that was written to so often."""
    if not path.exists():
        path.mkdir()
        with lmdb.open(str(path), map_size=1 << 20, sync=False) as environment:
            for number in range(commits):
                with environment.begin(write=True) as txn:
                    txn.put(b"key", b"%d" % number)
                    txn.put(b"long", bytes(2 * mmap.PAGESIZE))
    return (path / DATA_FILE).read_bytes()


def _meta_pages(path: Path, commits: int) -> bytes:
    """What the two meta pages of such a file say."""
    data = _file(path, commits)
    return data[:META_BYTES] + data[mmap.PAGESIZE : mmap.PAGESIZE + META_BYTES]


def _freed(file: Path, data: bytes) -> int:
    file.write_bytes(data)
    return bytes_freed_since(file, 0)


def _fit(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    unfit = look_at(file).unfit
    if unfit:
        raise Corrupted(unfit)


def _check_meta_pages(file: Path, data: bytes) -> None:
    file.write_bytes(data[:META_BYTES].ljust(mmap.PAGESIZE, b"\0") + data[META_BYTES:])
    check_meta_pages(file)


def _index(choose: random.Random) -> tuple[IndexKind, list[int]]:
    """The kind of an index and what it holds."""
    seqs = choose.sample(range(BASE + 1, BASE + 500), choose.randint(0, 9))
    return choose.choice(list(IndexKind)), sorted(seqs)


def _saved_index(path: Path, plain: tuple[IndexKind, list[int]]) -> bytes:
    kind, seqs = plain
    index = VectorIndex(DIMENSION, BASE)
    if kind is IndexKind.QUANTIZED:
        index.adopt(clustered(vectors_of(["a", "b", "c"]), plan(3), at_once), BASE, BASE)
    index.apply(BASE + 500, [], seqs, _vectors_of(seqs)[1])
    write_snapshot(path, index.snapshot(SHARD_ID))
    return path.read_bytes()


def _loaded_index(path: Path, data: bytes) -> tuple[IndexKind, list[int]]:
    """What a snapshot of this shard holds, if it makes an index that can be used like any other."""
    path.write_bytes(data)
    with read_snapshot(path) as snapshot:
        if (snapshot.shard_id, snapshot.dimension, snapshot.base) != (SHARD_ID, DIMENSION, BASE):
            raise Corrupted("another shard's")
        index = VectorIndex.load(snapshot)
    seqs = sorted(index.seqs().tolist())
    assert all(BASE <= seq < base_of(4) for seq in [*seqs, index.position, index.clustered_at])
    fresh = next(seq for seq in range(BASE + 500, BASE + 600) if seq not in seqs)
    index.apply(index.position, [], [fresh], _vectors_of([fresh])[1])
    for k in (1, len(seqs) + 1):
        (found,) = index.search(vector_of(f"{fresh}")[None], k).ranked(_vectors_of)
        assert fresh in [seq for _, seq in found] and len(found) == k, found
    assert sorted(seq for _, seq in found) == sorted([*seqs, fresh])
    assert index.holds(fresh, vector_of(f"{fresh}"))
    index.apply(index.position, [range(seq, seq + 1) for seq in [*seqs, fresh]], [], _vectors_of([])[1])
    assert index.count == 0
    return index.kind, seqs


def _vectors_of(seqs: Sequence[int]) -> tuple[Sequence[int], np.ndarray[Any, np.dtype[np.float32]]]:
    return seqs, vectors_of([f"{seq}" for seq in seqs]) if seqs else np.empty((0, DIMENSION), np.float32)


def _entry(choose: random.Random) -> Entry:
    first = choose.randint(1, 1 << 60)
    return Entry(choose.uniform(1, 1e12), f"key {first}", range(first, first + choose.randint(1, 1 << 31)))


class _Expiry:
    """A table `expiry` that has one entry at a time, given with the length of its key, its key and its sealed value."""

    def __init__(self, path: Path) -> None:
        self._environment = Environment.create(path, 1 << 20, durable=False)
        self._expiry = Expiry(self._environment, Quarantine(self._environment))

    def encode(self, entry: Entry) -> bytes:
        place = struct.pack(">dQ", entry.at, entry.seqs.start)
        return bytes([len(place)]) + place + seal("expiry", place, encode_expiry((entry.key, len(entry.seqs))))

    def resealed(self, data: bytes) -> bytes:
        place, sealed = self._taken_apart(data)
        return bytes([len(place)]) + place + seal("expiry", place, sealed[8:])

    def decode(self, data: bytes) -> Entry:
        place, sealed = self._taken_apart(data)
        with self._environment.writing() as txn:
            txn.put(place, sealed, db=self._expiry.table._handle)
            (entry,) = self._expiry.entries(txn)
            assert isinstance(entry, Damaged) or not math.isfinite(entry.at) or self._expiry.has_ended(txn, entry.at)
            self._expiry.time_of(txn, range(1, 2))
            self._expiry.retain(txn, lambda _: False)
            assert not self._expiry.table.count(txn)
        if isinstance(entry, Damaged):
            raise entry
        return entry

    def _taken_apart(self, data: bytes) -> tuple[bytes, bytes]:
        end = 1 + int.from_bytes(data[:1], "little")
        # LMDB has no empty keys.
        return data[1:end] or b"\0", data[end:]


class _Vectors:
    """The records of a shard, one of whose vectors is these bytes."""

    def __init__(self, path: Path) -> None:
        self._records = Records.create(path, Identity("records", SHARD_ID, "default", EMBEDDER, DIMENSION, 0))

    def decode(self, data: bytes) -> Vector:
        key = encode_seq(1)
        with self._records.environment.writing() as txn:
            txn.put(key, seal("vectors", key, data), db=self._records.vectors._handle)
            _, matrix, damages = self._records.matrix(txn, [1])
        if damages:
            raise damages[0]
        vector: Vector = matrix[0]
        return vector


def _openings(path: Path, data: bytes) -> int:
    path.mkdir(exist_ok=True)
    (path / "lock").write_bytes(data)
    lock = DirectoryLock(path)
    lock.release()
    return lock.unreleased


def _key_values(stored: str) -> Codec:
    """Of a small model that stores them so; the value is how many tokens are kept."""
    bits = stage_bits(HEAD_SIZE)
    generator = torch.Generator().manual_seed(0)
    tables = torch.randn(1, 2, sum(1 << width for width in bits), HEAD_SIZE, generator=generator).half()
    form = KeyValueForm(MemoryLayout((0, 1), KEPT, stored=stored), 1, HEAD_SIZE, Codebooks(bits, tables))
    floats = torch.randn(form.shape, generator=generator)

    def decode(data: bytes) -> int:
        tokens = form.check(data)
        decoded, counts = form.decoded([data, data], CPU)
        assert decoded.shape == (2, *form.shape) and counts.tolist() == [tokens, tokens]
        assert form.layers([data], CPU, torch.float32).keys() == {0, 1}
        return tokens

    return _loading(lambda c: c.randint(1, KEPT), lambda tokens: form.encode(floats[..., :tokens, :], tokens), decode)


def _codebooks(choose: random.Random) -> tuple[tuple[int, ...], Any]:
    """The bits of the stages, and the tables as lists."""
    bits = tuple(choose.randint(1, 3) for _ in range(choose.randint(1, 3)))
    generator = torch.Generator().manual_seed(choose.getrandbits(32))
    rows = sum(1 << width for width in bits)
    return bits, torch.randn(choose.randint(1, 2), 2, rows, choose.randint(1, 4), generator=generator).half().tolist()


def _saved_codebooks(folder: Path, plain: tuple[tuple[int, ...], Any]) -> bytes:
    bits, tables = plain
    Codebooks(bits, torch.tensor(tables, dtype=torch.float16)).save(folder)
    return (folder / FILE).read_bytes()


def _loaded_codebooks(folder: Path, data: bytes) -> tuple[tuple[int, ...], Any]:
    # A new file each time: what was loaded may still lie in the old one.
    (folder / FILE).unlink(missing_ok=True)
    (folder / FILE).write_bytes(data)
    found = Codebooks.load(folder / FILE, CPU)
    return found.bits, found.tables.tolist()


def _retyped(data: bytes) -> bytes:
    """Say of the tensors in a file that they are of other types and shapes, as far as its header is whole."""
    choose = random.Random(data)
    try:
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        for tensor in header.values():
            tensor["dtype"] = choose.choice([tensor["dtype"], "BOOL", "U8", "F16", "BF16", "I16", "F64", "I64", "U64"])
            tensor["shape"] = choose.choice([tensor["shape"], tensor["shape"][::-1], [], [*tensor["shape"], 1]])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return data
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + data[end:]


def _vectors_of_message(data: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Those of a message with as many vectors as the first byte says, which share the rest."""
    count, rest = int.from_bytes(data[:1], "little"), data[1:]
    size = -(-len(rest) // max(1, count))
    return vectors_from_wire([pb.Vector(float32_le=rest[number * size :][:size]) for number in range(count)])


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _exam(choose: random.Random) -> dict[str, Any]:
    keys = [f"{number}" for number in range(choose.randint(1, 3))]
    return {
        "documents": [{"key": key, "text": f"Text {key}."} for key in keys],
        "questions": [{"question": "Which?", "answers": ["This.", "That."], "key": key} for key in keys],
        "unanswerable": ["Who?"],
    }


def _loaded_exam(path: Path, data: bytes) -> dict[str, Any]:
    path.write_bytes(data)
    exam = load_exam(path)
    asked = [question for question in exam.questions if question.answers]
    return {
        "documents": [{"key": key, "text": text} for key, text in exam.documents.items()],
        "questions": [{"question": one.text, "answers": list(one.answers), "key": one.key} for one in asked],
        "unanswerable": [question.text for question in exam.questions if not question.answers],
    }


def _lines(choose: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "key": f"key {number}",
            "text": "A text.",
            "metadata": {"n": number, "s": "x"},
            "expires_at": choose.choice([None, 1e9]),
        }
        for number in range(choose.randint(1, 3))
    ]


def _joined(lines: list[dict[str, Any]]) -> bytes:
    return b"\n".join(map(_json, lines))


def _lines_reshuffled(data: bytes) -> bytes:
    return b"\n".join(map(reshuffled, data.splitlines()))


def _documents(path: Path, data: bytes) -> list[dict[str, Any]]:
    """The documents that `memory3 add` makes of a file; one of which it says that it is none is an error here."""
    path.write_bytes(data)
    documents = []
    for source in documents_of_files(files_of([path])):
        if isinstance(source, Bad):
            raise InvalidArgument(source.reason)
        documents.append(asdict(source.document))
    return documents
