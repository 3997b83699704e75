"""`memory3 serve`: store and model in one process, over gRPC."""

import os
import signal
import threading
from json import dumps
from typing import Annotated

import typer

from .connection import open_directory
from .options import Data, EmbedderName, Json, ModelName, Target
from .output import notes


def serve(
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Address to listen on [MEMORY3_LISTEN; default 127.0.0.1:7333]; port 0: a free one.",
        ),
    ] = None,
    data: Data = None,
    model: ModelName = None,
    embedder: EmbedderName = None,
    json: Json = False,
) -> None:
    """Serve the data directory until Ctrl-C or SIGTERM; calls under way are finished first.

    Other commands on the same --data find this server by themselves. With --json, one line tells when it is ready.
    """
    settings = Target.of(data, None, None, model=model, embedder=embedder).settings
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with open_directory(settings) as memory:
        from ..cluster.server import Server, ServerLimits

        memory.load_models()
        limits = ServerLimits(
            settings.message_bytes_max, settings.workers, settings.generations_max, settings.generations_waiting_max
        )
        with Server(memory, listen or settings.listen, limits=limits, stop_grace_s=settings.stop_grace_s) as server:
            if json:
                fields = {"address": server.address, "data": str(settings.data), "pid": os.getpid()}
                print(dumps(fields), flush=True)
            else:
                notes.print(f"Memory3 serves {settings.data} on {server.address}; Ctrl-C stops it")
            stop.wait()
            notes.print("stopping: calls under way are finished first")
