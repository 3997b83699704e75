"""The servicer of `GenerationService`: answers streamed as they are made, and key-values written on request."""

from collections.abc import Iterator
from typing import Any

import grpc

from ..calls import DEFAULT_COLLECTION
from ..protos.memory3.v1 import generation_service_pb2 as pb
from ..store.errors import InvalidArgument
from ..wire import convert, events
from .binding import check_alive
from .embedded import Embedded
from .gate import Gate
from .writing import write_cold

WRITE_MEMORIES_MAX = 256
"""Memories written in one call, so that a call stays short; its answer says how many remain."""


class GenerationServicer:
    """The model over gRPC."""

    def __init__(self, memory: Embedded, gate: Gate) -> None:
        self._memory = memory
        self._gate = gate

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> Iterator[pb.GenerateResponse]:
        kind = request.WhichOneof("input")
        if kind is None:
            raise InvalidArgument("there is nothing to generate from; set a prompt or a question")
        start = self._memory.ask if kind == "question" else self._memory.generate
        with (
            self._gate.passage(lambda: check_alive(context)),
            start(getattr(request, kind), collection=_collection(request.collection), **_options(request)) as answer,
        ):
            for event in answer.events():
                check_alive(context)
                yield events.event_to_wire(event)

    def Write(self, request: pb.WriteRequest, context: grpc.ServicerContext) -> pb.WriteResponse:
        written, remaining = write_cold(
            self._memory.opened(_collection(request.collection)),
            self._memory.models.language_model,
            list(request.keys) or None,
            limit=WRITE_MEMORIES_MAX,
            progress=lambda done, of: check_alive(context),
        )
        return pb.WriteResponse(written=written, remaining=remaining)


def _options(request: pb.GenerateRequest) -> dict[str, Any]:
    names = ("max_tokens", "memories", "temperature", "top_p", "seed")
    options = {name: getattr(request, name) for name in names if request.HasField(name)}
    filter = convert.filter_from_wire(request.filter)
    return options | {"stop": list(request.stop), "filter": filter, "explain": request.explain}


def _collection(name: str) -> str:
    return name or DEFAULT_COLLECTION
