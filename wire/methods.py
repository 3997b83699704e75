"""The services' methods, read from the descriptors of the committed `.proto` code.

`wire/` holds what server and client share and nothing else: how calls, values, errors and key-values travel. It is a
package of its own because the client must not import `cluster/`, and `protos/` knows none of our types.

A stream of key-values is bound to raw bytes in place of a message class (`wire/key_values.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor

from ..protos.memory3.v1 import generation_service_pb2, memory_service_pb2

MEMORY_SERVICE: ServiceDescriptor = memory_service_pb2.DESCRIPTOR.services_by_name["MemoryService"]
GENERATION_SERVICE: ServiceDescriptor = generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"]
RAW_MESSAGES = frozenset({"FetchKeyValuesResponse", "PutKeyValuesRequest", "RecallResponse"})
"""Messages that carry key-values: code on both ends sees their bytes."""


@dataclass(frozen=True, slots=True)
class Codec:
    """How one message becomes bytes and back."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service, ready to be bound to a channel or a server."""

    name: str
    path: str
    request: Codec
    response: Codec
    request_streams: bool
    response_streams: bool


def methods_of(service: ServiceDescriptor) -> list[Method]:
    return [_method(service, method) for method in service.methods]


def _method(service: ServiceDescriptor, method: MethodDescriptor) -> Method:
    return Method(
        name=method.name,
        path=f"/{service.full_name}/{method.name}",
        request=_codec(method.input_type),
        response=_codec(method.output_type),
        request_streams=method.client_streaming,
        response_streams=method.server_streaming,
    )


def _codec(message: Descriptor) -> Codec:
    if message.name in RAW_MESSAGES:
        return Codec(bytes, bytes)
    kind = message_factory.GetMessageClass(message)
    return Codec(kind.SerializeToString, kind.FromString)
