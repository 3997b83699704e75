"""The client has the embedded store's methods and none of its weight."""

import inspect
import subprocess
import sys

import memory3
import pytest
from memory3.client import Client
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.store.errors import InvalidArgument, Unavailable

SERVING = {"answer", "load_models", "opened", "publish"}
"""What only who serves an embedded store needs."""


def public_methods(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") or name in ("__enter__", "__exit__")
    }


def test_client_and_embedded_have_the_same_methods() -> None:
    embedded = {name: method for name, method in public_methods(Embedded).items() if name not in SERVING}
    assert public_methods(Client) == embedded


@pytest.mark.parametrize(
    "statement",
    [
        "import memory3; memory3.connect('localhost:1').close()",
        "from memory3.client import Client",
        "from memory3.cli import app",
        "from memory3.commands.connection import connected",
    ],
)
def test_client_and_command_line_need_no_heavy_library(statement: str) -> None:
    heavy = ["torch", "faiss", "lmdb", "transformers", "sentence_transformers", "xxhash", "semantic_text_splitter"]
    code = f"import sys; {statement}; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_importing_memory3_does_not_import_grpc() -> None:
    code = "import sys, memory3; print('grpc' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_the_public_names_are_exactly_those_listed() -> None:
    assert memory3.__all__ == sorted(memory3.__all__)
    for name in memory3.__all__:
        assert getattr(memory3, name).__doc__
    shown = {name for name, value in vars(memory3).items() if inspect.isclass(value) and value.__module__ != "pathlib"}
    assert shown | {"open", "connect", "restore", "GenerationEvent"} == set(memory3.__all__)


def test_connect_talks_to_a_server(server: Server, collection: str) -> None:
    with memory3.connect(server.address) as memory:
        memory.upsert(memory3.Document("a", "Some text."), collection=collection)
        assert memory.count(collection=collection) == memory3.Count(1, 1)


def test_a_closed_client_says_so(server: Server) -> None:
    client = Client(server.address)
    client.close()
    client.close()
    with pytest.raises(Unavailable, match="is closed"):
        client.count()


def test_an_empty_address_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="host:port"):
        Client(" ")


def test_arguments_that_cannot_be_sent_are_refused(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="cannot be sent"):
        client.fetch_key_values("f", [-1])
    with pytest.raises(InvalidArgument, match="must be text"):
        client.get(3)  # type: ignore[call-overload]
    with pytest.raises(InvalidArgument, match="takes Documents"):
        client.upsert(["text"])  # type: ignore[list-item]
