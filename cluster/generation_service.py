"""The servicer of `GenerationService`: answers streamed as they are made, and key-values written on request."""

import time
from collections.abc import Iterator
from typing import Any

import grpc

from ..calls import DEFAULT_COLLECTION
from ..model.source import GenerationOptions
from ..protos.memory3.v1 import generation_service_pb2 as pb
from ..store.errors import InvalidArgument
from ..wire import convert, events
from .binding import check_alive
from .embedded import Embedded
from .generating import options_of
from .writing import write_cold

WRITE_MEMORIES_MAX = 256
"""Memories written in one call, so that a call stays short; its answer says how many remain."""


class GenerationServicer:
    """The model over gRPC."""

    def __init__(self, memory: Embedded) -> None:
        self._memory = memory

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> Iterator[pb.GenerateResponse]:
        kind = request.WhichOneof("input")
        if kind is None:
            raise InvalidArgument("there is nothing to generate from; set a prompt or a question")
        remaining = context.time_remaining()
        with self._memory.answer(
            kind,
            getattr(request, kind),
            _options(request),
            collection=_collection(request.collection),
            filter=convert.filter_from_wire(request.filter),
            owner=context.peer(),
            deadline=None if remaining is None else time.monotonic() + remaining,
        ) as answer:
            # Who goes away, or whose time is over, ends the answer wherever it stands.
            context.add_callback(answer.close)
            for event in answer.events():
                yield events.event_to_wire(event)
        check_alive(context)

    def Write(self, request: pb.WriteRequest, context: grpc.ServicerContext) -> pb.WriteResponse:
        written, remaining = write_cold(
            self._memory.opened(_collection(request.collection)),
            self._memory.models.language_model,
            list(request.keys) or None,
            limit=WRITE_MEMORIES_MAX,
            progress=lambda done, of: check_alive(context),
        )
        return pb.WriteResponse(written=written, remaining=remaining)


def _options(request: pb.GenerateRequest) -> GenerationOptions:
    names = ("max_tokens", "memories", "temperature", "top_p", "top_k", "seed")
    given: dict[str, Any] = {name: getattr(request, name) for name in names if request.HasField(name)}
    return options_of(**given, stop=list(request.stop), explain=request.explain)


def _collection(name: str) -> str:
    return name or DEFAULT_COLLECTION
