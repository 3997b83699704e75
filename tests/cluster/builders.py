"""What several tests of the service share."""

from typing import Any

import grpc
from memory3.cluster.server import Server


def raw(server: Server, method: str, request: Any, timeout: float = 30) -> Any:
    """Call a method with any bytes, as a client that checks nothing would."""
    with grpc.insecure_channel(server.address) as channel:
        call: Any = channel.unary_unary(f"/memory3.v1.MemoryService/{method}")
        return call(request if isinstance(request, bytes) else request.SerializeToString(), timeout=timeout)
