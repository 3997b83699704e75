"""The gRPC server around an embedded store: services, health, reflection; starts, publishes its address, stops.

The threaded server, because it was measured: small calls 0.2 ms against 0.3 ms of asyncio without uvloop, raw bytes
the same, and store and model block anyway. Bodies over 128 KB cost malloc an mmap each; `serve` is quicker on large
key-values when started with MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ raised (docs/wire.md).
"""

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ..store.errors import Unavailable
from ..wire.methods import GENERATION_SERVICE, MEMORY_SERVICE
from .activity import Activity
from .background_writer import BackgroundWriter
from .binding import bind
from .embedded import Embedded
from .generation_service import GenerationServicer
from .memory_service import MemoryServicer

SERVICES = (MEMORY_SERVICE.full_name, GENERATION_SERVICE.full_name)


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What the server takes on; see `Settings` for each."""

    message_bytes_max: int = 64 << 20
    workers: int = 64
    watches_max: int = 8


class Server:
    """Serves a memory that its caller opened and closes. As a context manager it runs within the block.

    Raises:
        Unavailable: the address cannot be listened on.
    """

    def __init__(
        self,
        memory: Embedded,
        listen: str = "127.0.0.1:0",
        *,
        limits: ServerLimits | None = None,
        write_in_background: bool = True,
        stop_grace_s: float = 10.0,
    ) -> None:
        limits = limits or ServerLimits()
        self._memory = memory
        self._stop_grace_s = stop_grace_s
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="memory3-call")
        self._server = grpc.server(self._pool, options=_options(limits))
        self._health = health.HealthServicer()
        activity = Activity()
        self._memory_servicer = MemoryServicer(memory, limits.message_bytes_max, limits.watches_max)
        servicers = {
            MEMORY_SERVICE: self._memory_servicer,
            GENERATION_SERVICE: GenerationServicer(memory),
        }
        for service, servicer in servicers.items():
            bind(self._server, service, servicer, limits.message_bytes_max, activity)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._writer = BackgroundWriter(memory, activity) if write_in_background else None
        self.address = self._listen(listen)

    def start(self) -> None:
        """Begin to answer, and say in the data directory where."""
        # What was loaded so far stays: the collector need not look through models and libraries amid somebody's call.
        gc.collect()
        gc.freeze()
        self._server.start()
        self._memory.publish(self.address)
        for name in ("", *SERVICES):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        if self._writer is not None:
            self._writer.start()

    def stop(self) -> None:
        """Refuse new calls, give those under way the grace time, then cancel them; return when all have ended."""
        self._health.enter_graceful_shutdown()
        self._memory_servicer.stop()
        stopped = self._server.stop(self._stop_grace_s)
        if self._writer is not None:
            self._writer.stop()
        stopped.wait()
        # Cancelled calls end at their next look at the caller; the store may be closed only after the last of them.
        self._pool.shutdown(wait=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _listen(self, listen: str) -> str:
        host = listen.rpartition(":")[0]
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError as error:
            raise Unavailable(f"cannot listen on {listen}: {error}; choose another address or port 0") from error
        return f"{host}:{port}"


def _options(limits: ServerLimits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.message_bytes_max),
        ("grpc.max_send_message_length", -1),  # answers are measured before they are sent, with a better message
        ("grpc.so_reuseport", 0),  # else two servers would share a port without noticing
    ]
