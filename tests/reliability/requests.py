"""Proof: whatever bytes a caller sends, the answer is one of our status codes, and the server serves on."""

import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from memory3.client import Client
from memory3.cluster.server import Server
from memory3.store.types import Document
from memory3.wire.methods import GENERATION_SERVICE, MEMORY_SERVICE

from .content import FILTERS
from .mutation import mutated
from .outcome import Outcome

Usual = Mapping[str, Sequence[str]]

TIMEOUT_S = 2.0
WATCH_S = 0.1
"""A watch has no end of its own."""
GENERATION_SHARE = 0.02
"""A generation costs a hundred times as much as any other call."""
MUTATED_SHARE = 0.5
REPEATS_MAX = 3
QUIET = "quiet"
"""A collection that no message of the fuzzer names; what it answers must not change."""
ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What a healthy server may say to bad input; INTERNAL and UNKNOWN would be mistakes of ours."""
USUAL_SHARE = 0.75
"""Of the fields that are set to what a caller would send, so that calls get past the first look at them."""
COLLECTIONS = ["", "default", "fuzz"]
USUAL_STRINGS = ["a", "key", "A text."]
USUAL_BY_NAME = {"collection": COLLECTIONS, "filter": ["", "", *map(json.dumps, FILTERS)]}
"""What a caller would send in a field of this name."""
PLACES = 3
"""Paths that backups are made at."""
STRINGS = [
    "",
    "default",
    "fuzz",
    "nowhere",
    "a",
    "key",
    "\0",
    "x" * 600,
    "日本",
    "\U0001f41d",
    "A text. " * 20,
    "AWtleQ",
]
INTEGERS = [0, 1, 2, 5, 16, 63, 64, 1_000, 1_001, 10_001, 1 << 31, (1 << 32) - 1, 1 << 53, (1 << 63) - 1, (1 << 64) - 1]
FLOATS = [0.0, -0.0, 0.5, 1.0, -1.0, 1e-45, 3.4e38, float("inf"), float("-inf"), float("nan")]
UNIT_VECTOR = b"\0\0\x80\x3f" + bytes(4 * 383)
"""Of the size of the packaged embedder's, float32."""
VIOLATIONS_MAX = 20


def fuzz_requests(server: Server, messages: int, seed: int = 0) -> Outcome:
    """Send `messages` made-up and mutated messages to every method of a running server.

    The outcome's places are the methods, all of them, each with how often it answered with which code.
    """
    outcome = Outcome("fuzz, requests", "made-up and mutated messages to every method of a real gRPC server")
    choose = random.Random(seed)
    with (
        Client(server.address) as client,
        grpc.insecure_channel(server.address) as channel,
        tempfile.TemporaryDirectory() as folder,
    ):
        usual = {**USUAL_BY_NAME, "path": [str(Path(folder, f"{number}")) for number in range(PLACES)]}
        before = _prepared(client)
        memory_methods, generation_methods = list(_methods(MEMORY_SERVICE)), list(_methods(GENERATION_SERVICE))
        for method in (*memory_methods, *generation_methods):
            outcome.places[method.name, grpc.StatusCode.OK.name] = 0
        while outcome.counts["messages"] < messages and len(outcome.violations) < VIOLATIONS_MAX:
            methods = generation_methods if choose.random() < GENERATION_SHARE else memory_methods
            method = choose.choice(methods)
            data = _message(method, usual, choose)
            if method.name == "Backup" and _writes_elsewhere(method, data, Path(folder)):
                continue
            code, details = _send(channel, method, data)
            outcome.counts["messages"] += 1
            outcome.counts[code.name] += 1
            outcome.places[method.name, code.name] += 1
            if code not in ANSWERS:
                outcome.violations.append(f"{method.name} of {data[:80]!r} ({len(data)} bytes): {code.name}: {details}")
        outcome.violations += _changed(client, before)
    return outcome.done()


def _prepared(client: Client) -> Any:
    client.create_collection(QUIET)
    client.upsert([Document(f"key {number}", f"Text {number}.") for number in range(20)], collection=QUIET)
    return _answers(client)


def _answers(client: Client) -> Any:
    found = client.recall(["Text 3.", "Text 7."], 5, collection=QUIET)
    # Key-values are written in the background while nobody calls.
    hits = [replace(hit, warm=False) for hits in found for hit in hits]
    return client.list(limit=50, collection=QUIET).documents, hits, client.count(collection=QUIET)


def _changed(client: Client, before: Any) -> Iterator[str]:
    """The server lives, what was not spoken of is as it was, and a change is taken and found."""
    after = _answers(client)
    if after != before:
        yield f"a collection that no message named answers {after} and not {before} as before"
    for info in client.list_collections():
        for problem in client.check(full=True, collection=info.name).problems:
            yield f"check of {info.name!r}: {problem}"
    client.upsert(Document("later", "What came after."), collection=QUIET)
    if client.recall("What came after.", 1, collection=QUIET)[0].key != "later":
        yield "what is stored afterwards is not found"


def _methods(service: Any) -> Iterator[Any]:
    yield from service.methods


def _message(method: Any, usual: Usual, choose: random.Random) -> bytes:
    message = GetMessageClass(method.input_type)()
    _fill(message, usual, choose)
    data = bytes(message.SerializeToString())
    return mutated(data, choose) if choose.random() < MUTATED_SHARE else data


def _writes_elsewhere(method: Any, data: bytes, folder: Path) -> bool:
    """Say whether a mutated path would make a backup beside the folder that is removed afterwards."""
    try:
        message: Any = GetMessageClass(method.input_type).FromString(data)
    except DecodeError:
        return False
    path = Path(message.path)
    return "\0" not in message.path and folder not in path.parents and path.parent.is_dir()


def _fill(message: Message, usual: Usual, choose: random.Random) -> None:
    """Set some of the fields, by chance, to values at the edges of what they hold."""
    for field in message.DESCRIPTOR.fields:
        if choose.random() < 0.35:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value_field = field.message_type.fields_by_name["value"]
            for _ in range(choose.randrange(REPEATS_MAX)):
                entry = getattr(message, field.name)
                key = choose.choice(USUAL_STRINGS if choose.random() < USUAL_SHARE else STRINGS)
                if value_field.message_type is not None:
                    _fill(entry[key], usual, choose)
                else:
                    entry[key] = _value(value_field, usual, choose)
        elif field.is_repeated:
            for _ in range(choose.randrange(REPEATS_MAX)):
                if field.message_type is not None:
                    _fill(getattr(message, field.name).add(), usual, choose)
                else:
                    getattr(message, field.name).append(_value(field, usual, choose))
        elif field.message_type is not None:
            _fill(getattr(message, field.name), usual, choose)
        else:
            setattr(message, field.name, _value(field, usual, choose))


def _value(field: Any, by_name: Usual, choose: random.Random) -> Any:
    kind = field.cpp_type
    usual = choose.random() < USUAL_SHARE
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return UNIT_VECTOR if usual else choose.choice([b"", b"123", bytes(len(UNIT_VECTOR)), choose.randbytes(40)])
        return choose.choice(by_name.get(field.name, USUAL_STRINGS) if usual else STRINGS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return choose.random() < 0.5
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return choose.random() if usual else choose.choice(FLOATS)
    bits = 32 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64
    number = choose.randint(1, 9) if usual else choose.choice(INTEGERS) % (1 << bits)
    signed = kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
    return number - (1 << bits) if signed and number >> (bits - 1) else number


def _send(channel: Any, method: Any, data: bytes) -> tuple[grpc.StatusCode, str]:
    path = f"/{method.containing_service.full_name}/{method.name}"
    timeout_s = WATCH_S if method.name == "Watch" else TIMEOUT_S
    try:
        if method.server_streaming:
            for _ in channel.unary_stream(path)(data, timeout=timeout_s):
                pass
        elif method.client_streaming:
            channel.stream_unary(path)(iter([data, data]), timeout=timeout_s)
        else:
            channel.unary_unary(path)(data, timeout=timeout_s)
    except grpc.RpcError as error:
        call = cast(grpc.Call, error)  # what a channel raises is always both
        return call.code(), call.details() or ""
    return grpc.StatusCode.OK, ""
