"""A bare gRPC server around a store that has none: bytes in, bytes out, nothing for protobuf to parse.

`Search` takes a vector, D float32, and answers the key-values of the K nearest; `Echo` answers the same bytes always.
An answer is the number of values, their lengths, and the values, as u32 little-endian and bytes.
"""

import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from memory3.bench.peers.protocol import Found, Searcher, Vector, Where
from memory3.bench.peers.work import K

WORKERS = 32
_SERVICE = "bench.Store"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]


class BareServer:
    """Serves one function of bytes on a free port of this machine."""

    def __init__(self, search: Callable[[bytes], bytes]) -> None:
        self._pool = ThreadPoolExecutor(WORKERS)
        self._server = grpc.server(self._pool, options=_OPTIONS)
        handler: grpc.RpcMethodHandler[bytes, bytes]
        handler = grpc.unary_unary_rpc_method_handler(lambda request, context: search(request))
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, {"Search": handler})])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()
        self._pool.shutdown()


class BareClient:
    """A connection to such a server."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._search: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(f"/{_SERVICE}/Search")

    def recall(self, vector: Vector, k: int = K, where: Where | None = None) -> list[Found]:
        return [Found(None, values) for values in unpack(self._search(vector.tobytes(), timeout=600))]

    def set_effort(self, effort: int) -> None:
        """The server's."""

    def close(self) -> None:
        self._channel.close()


def serve(store: Searcher) -> BareServer:
    """A server that searches `store`."""

    def search(request: bytes) -> bytes:
        return pack([found.key_values for found in store.recall(np.frombuffer(request, dtype=np.float32), K)])

    return BareServer(search)


def serve_echo(values: Sequence[bytes]) -> BareServer:
    """A server that answers these values whatever it is asked: what the transport alone costs."""
    answer = pack(values)
    return BareServer(lambda request: answer)


def pack(values: Sequence[bytes]) -> bytes:
    return b"".join([struct.pack(f"<I{len(values)}I", len(values), *map(len, values)), *values])


def unpack(message: bytes) -> list[bytes]:
    (count,) = struct.unpack_from("<I", message)
    lengths = struct.unpack_from(f"<{count}I", message, 4)
    values, start = [], 4 + 4 * count
    for length in lengths:
        values.append(message[start : start + length])
        start += length
    return values
