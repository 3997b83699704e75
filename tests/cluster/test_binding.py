"""Bytes that are no message are the caller's mistake, in every kind of call that there is."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from memory3.cluster.activity import Activity
from memory3.cluster.binding import _bound
from memory3.protos.memory3.v1 import memory_service_pb2 as pb
from memory3.wire.methods import Codec, Method

REQUEST = Codec(pb.GetRequest.SerializeToString, pb.GetRequest.FromString)
RESPONSE = Codec(pb.DeleteRequest.SerializeToString, pb.DeleteRequest.FromString)
GOOD = pb.GetRequest(keys=["a", "b"]).SerializeToString()
BAD = {"no UTF-8": GOOD.replace(b"a", b"\xff"), "no message": b"\xff" * 20, "cut": GOOD[:-1]}


def echo(request: pb.GetRequest, context: grpc.ServicerContext) -> pb.DeleteRequest:
    return pb.DeleteRequest(keys=request.keys)


def echo_in_a_stream(request: pb.GetRequest, context: grpc.ServicerContext) -> Iterator[pb.DeleteRequest]:
    yield echo(request, context)


def echo_of_a_stream(requests: Iterator[pb.GetRequest], context: grpc.ServicerContext) -> pb.DeleteRequest:
    return pb.DeleteRequest(keys=[key for request in requests for key in request.keys])


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    handlers = {
        name: _bound(Method(name, f"/test/{name}", REQUEST, RESPONSE, *streams), handler, 1 << 20, Activity())
        for name, handler, streams in (
            ("Call", echo, (False, False)),
            ("Stream", echo_in_a_stream, (False, True)),
            ("Collect", echo_of_a_stream, (True, False)),
        )
    }
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as opened:
        yield opened
    server.stop(None).wait()


def ask(channel: grpc.Channel, name: str, messages: list[bytes]) -> list[str]:
    """The keys that a method echoes; the last message is the one that counts where it takes only one."""
    call: Any
    if name == "Collect":
        call = channel.stream_unary("/test/Collect")
        answers = [call(iter(messages), timeout=30)]
    elif name == "Stream":
        call = channel.unary_stream("/test/Stream")
        answers = list(call(messages[-1], timeout=30))
    else:
        call = channel.unary_unary("/test/Call")
        answers = [call(messages[-1], timeout=30)]
    return [key for answer in answers for key in pb.DeleteRequest.FromString(answer).keys]


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("name", ["Call", "Stream", "Collect"])
def test_bytes_that_are_no_message(channel: grpc.Channel, name: str, bad: bytes) -> None:
    """gRPC decoded them itself and called its failure INTERNAL, as if the server were broken."""
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, name, [GOOD, bad])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"the request of {name} cannot be read" in caught.value.details()  # type: ignore[operator]


@pytest.mark.parametrize("name", ["Call", "Stream", "Collect"])
def test_bytes_that_are_one(channel: grpc.Channel, name: str) -> None:
    assert ask(channel, name, [GOOD]) == ["a", "b"]
