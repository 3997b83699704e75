"""Binds plain handler methods to gRPC: decoding, our errors as status codes, deadlines, and sizes of answers.

A handler validates, calls and converts; everything that is the same for all of them happens here.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from grpc_status import rpc_status

from ..store.errors import Cancelled, DeadlineExceeded, InvalidArgument, Memory3Error, ResourceExhausted
from ..wire.methods import Method, methods_of
from ..wire.status import status_of
from .activity import Activity

_log = logging.getLogger(__name__)

UNCOUNTED = frozenset({"Backup", "Check", "Compact", "Watch"})
"""Methods that may run for hours and want no model: background work need not keep out of their way."""

Handler = Callable[[Any, grpc.ServicerContext], Any]


def bind(
    server: grpc.Server, service: ServiceDescriptor, servicer: object, message_bytes_max: int, activity: Activity
) -> None:
    """Serve each method of `service` by the servicer's method of the same name; `activity` counts its calls."""
    handlers = {
        method.name: _bound(
            method,
            getattr(servicer, method.name),
            message_bytes_max,
            nullcontext() if method.name in UNCOUNTED else activity,
        )
        for method in methods_of(service)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))


def check_alive(context: grpc.ServicerContext) -> None:
    """End work that nobody waits for; called between the batches of a long call.

    Raises:
        DeadlineExceeded: the caller's time is over.
        Cancelled: the caller went away.
    """
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s <= 0:
        raise DeadlineExceeded("the time for this call ran out; what was already answered stands")
    if not context.is_active():
        raise Cancelled("the caller went away")


def _bound(
    method: Method, handler: Handler, message_bytes_max: int, activity: AbstractContextManager[object]
) -> "grpc.RpcMethodHandler[Any, Any]":
    factories: dict[tuple[bool, bool], Callable[..., grpc.RpcMethodHandler[Any, Any]]] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
    }
    decoding = _decoding(method, handler)
    guarded = (
        _guarded_stream(decoding, activity)
        if method.response_streams
        else _guarded_call(decoding, message_bytes_max, activity)
    )
    factory = factories[method.request_streams, method.response_streams]
    return factory(guarded, response_serializer=method.response.encode)


def _decoding(method: Method, handler: Handler) -> Handler:
    """The handler, given bytes; gRPC, were it to decode them, would call bytes that are no message INTERNAL."""
    decode = partial(_decoded, method)

    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        return handler(map(decode, request) if method.request_streams else decode(request), context)

    return handle


def _decoded(method: Method, message: bytes) -> Any:
    try:
        return method.request.decode(message)
    except DecodeError as error:
        raise InvalidArgument(
            f"the request of {method.name} cannot be read: {error}; send the message of protos/, its texts in UTF-8"
        ) from error


def _guarded_call(handler: Handler, message_bytes_max: int, activity: AbstractContextManager[object]) -> Handler:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            with activity:
                check_alive(context)
                response = handler(request, context)
                _check_size(response, message_bytes_max)
                return response
        except Exception as error:
            _abort(context, error)

    return call


def _guarded_stream(handler: Handler, activity: AbstractContextManager[object]) -> Handler:
    def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            with activity:
                check_alive(context)
                yield from handler(request, context)
        except Exception as error:
            _abort(context, error)

    return stream


def _check_size(response: Message | bytes, message_bytes_max: int) -> None:
    size = len(response) if isinstance(response, bytes) else response.ByteSize()
    if size > message_bytes_max:
        raise ResourceExhausted(
            f"the answer has {size} bytes, a message may have {message_bytes_max}; ask for less in one call"
        )


def _abort(context: grpc.ServicerContext, error: Exception) -> None:
    if not isinstance(error, Memory3Error):
        # A mistake of ours: the whole of it into the log, only its kind to the caller.
        _log.error("a call failed", exc_info=error)
        error = Memory3Error(f"the server failed on this call ({type(error).__name__}); its log says more")
    context.abort_with_status(rpc_status.to_status(status_of(error)))
