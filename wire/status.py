"""One table between our errors and gRPC's status codes, used by the server to send and by the client to raise.

A failure travels as a `google.rpc.Status`: the code, our message, an ErrorInfo that names the class (so that a
subclass arrives as itself) and, where trying again makes sense, a RetryInfo.
"""

from typing import cast

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from ..store import errors

DOMAIN = "memory3"
RETRY_SECONDS = 1

# The first class of a code is what a failure becomes that does not name its class.
CODES: tuple[tuple[type[errors.Memory3Error], int], ...] = (
    (errors.InvalidArgument, code_pb2.INVALID_ARGUMENT),
    (errors.NotFound, code_pb2.NOT_FOUND),
    (errors.AlreadyExists, code_pb2.ALREADY_EXISTS),
    (errors.Aborted, code_pb2.ABORTED),
    (errors.FailedPrecondition, code_pb2.FAILED_PRECONDITION),
    (errors.DirectoryInUse, code_pb2.FAILED_PRECONDITION),
    (errors.UnsupportedFormat, code_pb2.FAILED_PRECONDITION),
    (errors.FingerprintMismatch, code_pb2.FAILED_PRECONDITION),
    (errors.ResourceExhausted, code_pb2.RESOURCE_EXHAUSTED),
    (errors.Corrupted, code_pb2.DATA_LOSS),
    (errors.DeadlineExceeded, code_pb2.DEADLINE_EXCEEDED),
    (errors.Cancelled, code_pb2.CANCELLED),
    (errors.Unavailable, code_pb2.UNAVAILABLE),
    (errors.Memory3Error, code_pb2.INTERNAL),
)
_CODE_OF = dict(CODES)
_CLASS_OF_NAME = {kind.__name__: kind for kind, _ in CODES}
_RETRYABLE = (errors.ResourceExhausted, errors.Unavailable, errors.Aborted)


def status_of(error: errors.Memory3Error) -> status_pb2.Status:
    """The status that carries `error` to the caller."""
    kind = next(kind for kind in type(error).__mro__ if kind in _CODE_OF)
    info = error_details_pb2.ErrorInfo(reason=kind.__name__, domain=DOMAIN)
    if isinstance(error, errors.DirectoryInUse) and error.address:
        info.metadata["address"] = error.address
    details = [_any(info)]
    if isinstance(error, _RETRYABLE):
        details.append(_any(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=RETRY_SECONDS))))
    return status_pb2.Status(code=_CODE_OF[kind], message=str(error), details=details)


def error_of(error: grpc.RpcError) -> errors.Memory3Error:
    """The error that a failed call stands for, of the same class as the server raised."""
    call = cast(grpc.Call, error)  # what a channel raises is always both
    message = call.details() or "the call failed without a message"
    info = _error_info(call)
    kind = _CLASS_OF_NAME.get(info.reason) if info is not None else None
    if info is not None and kind is errors.DirectoryInUse:
        return errors.DirectoryInUse(message, info.metadata.get("address") or None)
    if kind is None:
        number = call.code().value[0]
        kind = next((kind for kind, code in CODES if code == number), errors.Memory3Error)
        message = _explained(call.code(), message)
    return kind(message)


def from_server(error: grpc.RpcError) -> bool:
    """Whether the server raised it, and not gRPC on the way."""
    return _error_info(cast(grpc.Call, error)) is not None


def _error_info(call: grpc.Call) -> error_details_pb2.ErrorInfo | None:
    try:
        status = rpc_status.from_call(call)
    except ValueError:
        return None  # details that contradict the code: some proxy's, not ours
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            return info
    return None


def _explained(code: grpc.StatusCode, message: str) -> str:
    """Say what to do about failures that gRPC itself reports, whose messages are written for its developers."""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message:
        return f"a message is over the size limit: {message}; send fewer or smaller documents in one call"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "the time for this call ran out; what was already answered stands; try again with a longer timeout"
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"the server cannot be reached: {message}"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"the server does not know this method: {message}; it may be of another version"
    return message


def _any(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
