"""Finds what a command talks to: the server it is told, the one that runs on the directory, or the directory itself."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from ..client import Client
from ..settings import Settings
from ..store.disk.lock_file import server_address
from ..store.errors import DirectoryInUse, FailedPrecondition, Unavailable
from .options import Target

if TYPE_CHECKING:
    from ..cluster.embedded import Embedded

Memory: TypeAlias = "Client | Embedded"


@contextmanager
def connected(target: Target) -> Iterator["Client | Embedded"]:
    """The memory that the command works on, closed at the end."""
    settings = target.settings
    address = settings.server or server_address(settings.data)
    if address is not None and (settings.server or _answers(address, settings)):
        with _client(address, settings) as client:
            yield client
        return
    with _opened(settings) as memory:
        yield memory


@contextmanager
def _opened(settings: Settings) -> Iterator["Client | Embedded"]:
    try:
        memory: Client | Embedded = open_directory(settings)
    except DirectoryInUse as error:
        # Its server came up after we looked, or was too busy to answer at once.
        if error.address is None:
            raise
        memory = _client(error.address, settings)
    with memory:
        yield memory


def open_directory(settings: Settings) -> "Embedded":
    """Open the data directory in this process.

    Raises:
        FailedPrecondition: only the client is installed.
    """
    limit_threads(settings.threads)
    try:
        from ..cluster.embedded import Embedded
        from ..model.engine.limits import EngineLimits
        from ..store.types import Quotas
    except ImportError as error:
        raise FailedPrecondition(
            f"no server runs on {settings.data}, and opening it here needs more libraries ({error}); "
            "give --server, or pip install 'memory3[server]'"
        ) from error
    return Embedded(
        settings.data,
        embedder=settings.embedder,
        model=settings.model,
        device=settings.device,
        shards=settings.shards,
        quotas=Quotas(settings.bytes_max, settings.key_values_bytes_max),
        engine=EngineLimits(
            running_max=settings.generations_max,
            waiting_max=settings.generations_waiting_max,
            context_tokens_max=settings.context_tokens_max,
            slots=settings.pool_memories,
            ram_bytes=settings.pool_ram_bytes,
        ),
    )


def limit_threads(threads: int) -> None:
    """Hold torch and faiss to their share of the cores: with more threads than free cores they collapse.

    OpenMP reads this when the first of them is loaded, so it is set before.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _answers(address: str, settings: Settings) -> bool:
    with Client(address, timeout_s=2.0, message_bytes_max=settings.message_bytes_max) as client:
        try:
            client.list_collections()
        except Unavailable:
            return False
        except Exception:  # it answered, if badly; the command itself will say how
            return True
    return True


def _client(address: str, settings: Settings) -> Client:
    return Client(address, timeout_s=settings.timeout_s, message_bytes_max=settings.message_bytes_max)
