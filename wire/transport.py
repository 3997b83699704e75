"""Calls over one gRPC channel: names to methods, deadlines, and failures as our own errors."""

import math
import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import grpc

from ..store.errors import Cancelled, InvalidArgument, Memory3Error, Unavailable
from .methods import GENERATION_SERVICE, MEMORY_SERVICE, Method, methods_of
from .status import error_of, from_server

_SCHEME = re.compile(r"^(dns:(//[^/]*/)?|ipv[46]:)")
"""What gRPC lets stand before host and port."""


class Transport:
    """A channel to one server; safe to share between threads. Nothing is sent before the first call."""

    def __init__(self, address: str, *, timeout_s: float, message_bytes_max: int) -> None:
        if not address.strip():
            raise InvalidArgument("the server's address is empty; give host:port")
        self.address = address
        self.timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, options=_options(address, message_bytes_max))
        methods = [*methods_of(MEMORY_SERVICE), *methods_of(GENERATION_SERVICE)]
        self._methods = {method.name: self._bind(method) for method in methods}
        self._closed = False

    def call(self, name: str, request: Any, timeout_s: float | None = None) -> Any:
        """One request (or an iterator of them, where the method takes a stream), one answer."""
        method = self._method(name)
        try:
            return method(request, timeout=timeout_s or self.timeout_s)
        except grpc.RpcError as error:
            raise self._whole_call_error(error) from error

    def _whole_call_error(self, error: grpc.RpcError) -> Memory3Error:
        """Nobody here cancels a call of one answer: gRPC ends so what reaches a server as it stops."""
        found = error_of(error)
        if isinstance(found, Cancelled) and not self._closed and not from_server(error):
            return Unavailable("the server stopped before it took up the call; try again when one is there")
        return found

    def stream(self, name: str, request: Any, timeout_s: float | None = None) -> "Responses":
        """One request, a stream of answers, which may last for ever if `timeout_s` is infinite; sent at once."""
        timeout = self.timeout_s if timeout_s is None else timeout_s
        return Responses(self._method(name)(request, timeout=None if timeout == math.inf else timeout))

    def close(self) -> None:
        """End the channel and the calls that run on it."""
        self._closed = True
        self._channel.close()

    def _method(self, name: str) -> Callable[..., Any]:
        if self._closed:
            raise Unavailable(f"the client of {self.address} is closed; connect again")
        return self._methods[name]

    def _bind(self, method: Method) -> Callable[..., Any]:
        factories: dict[tuple[bool, bool], Any] = {
            (False, False): self._channel.unary_unary,
            (False, True): self._channel.unary_stream,
            (True, False): self._channel.stream_unary,
        }
        bound: Callable[..., Any] = factories[method.request_streams, method.response_streams](
            method.path, request_serializer=method.request.encode, response_deserializer=method.response.decode
        )
        return bound


class Responses(Iterator[Any]):
    """The answers of a streaming call; closing it tells the server to stop."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise error_of(error) from error

    def close(self) -> None:
        self._call.cancel()


def _options(address: str, message_bytes_max: int) -> list[tuple[str, int]]:
    # The server alone judges what is too large to send: its limit counts, and its answer says so.
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", message_bytes_max)]
    if is_here(address):
        # gRPC sends even calls to 127.0.0.1 through `http_proxy`, and to a proxy that is another machine.
        options.append(("grpc.enable_http_proxy", 0))
    return options


def is_here(address: str) -> bool:
    """Whether an address is of this machine alone; 0.0.0.0, which a server may publish, leads here too."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = _SCHEME.sub("", address).lower()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        parsed = ip_address(host)
    except ValueError:
        return host == "localhost"
    return parsed.is_loopback or parsed.is_unspecified
