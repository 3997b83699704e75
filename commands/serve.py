"""`memory3 serve`: store and model in one process, over gRPC."""

import os
import signal
import threading
from json import dumps
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ..settings import Settings
from .connection import open_directory
from .options import Data, EmbedderName, Json, ModelName, Target
from .output import notes

if TYPE_CHECKING:
    from ..cluster.embedded import Embedded

News: TypeAlias = int | BaseException | None
"""What `serve` waits for: a signal, that the models could not be loaded and why, or that they are loaded."""


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
    with open_directory(settings) as memory:
        # A queue and no Event: a handler may run while the lock of an Event is held, and would wait for itself.
        news: SimpleQueue[News] = SimpleQueue()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: news.put(number))
        stopped_by = _load_models(memory, news)
        if stopped_by is None:
            _serve(memory, settings, listen or settings.listen, json, news)
    if stopped_by is not None:
        notes.print("stopped before the models were loaded; the data directory is closed")
        # What loads, or downloads, cannot be called off, and a normal end would wait for it.
        os._exit(128 + stopped_by)


def _load_models(memory: "Embedded", news: SimpleQueue[News]) -> int | None:
    """Load the models; return the signal when one comes first, and leave the loading to itself."""

    def load() -> None:
        try:
            memory.load_models()
            news.put(None)
        except BaseException as error:
            news.put(error)

    threading.Thread(target=load, name="memory3-load", daemon=True).start()
    first = news.get()
    if isinstance(first, BaseException):
        raise first
    return first


def _serve(memory: "Embedded", settings: Settings, listen: str, json: bool, news: SimpleQueue[News]) -> None:
    from ..cluster.server import Server, ServerLimits

    limits = ServerLimits(
        settings.message_bytes_max,
        settings.workers,
        settings.watches_max,
    )
    with Server(memory, listen, limits=limits, stop_grace_s=settings.stop_grace_s) as server:
        if json:
            fields = {"address": server.address, "data": str(settings.data), "pid": os.getpid()}
            print(dumps(fields), flush=True)
        else:
            notes.print(f"Memory3 serves {settings.data} on {server.address}; Ctrl-C stops it")
        news.get()
        notes.print("stopping: calls under way are finished first")
