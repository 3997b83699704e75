"""Every error of ours arrives at a remote caller as the same class, with its message."""

import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from memory3.client import Client
from memory3.cluster.activity import Activity
from memory3.cluster.binding import bind
from memory3.store import errors
from memory3.wire.methods import MEMORY_SERVICE
from memory3.wire.status import CODES, status_of

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.Memory3Error)]


class Failing:
    """A servicer all of whose methods raise what `error` is at the time."""

    error: Exception = errors.Memory3Error("none yet")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def fail(request: Any, context: grpc.ServicerContext) -> Any:
            raise self.error

        return fail


@pytest.fixture(scope="module")
def failing() -> Iterator[tuple[Failing, Client]]:
    servicer = Failing()
    server = grpc.server(ThreadPoolExecutor(2))
    bind(server, MEMORY_SERVICE, servicer, 1 << 20, Activity())
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(f"127.0.0.1:{port}") as client:
        yield servicer, client
    server.stop(None).wait()


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_arrives_as_itself(kind: type[errors.Memory3Error], failing: tuple[Failing, Client]) -> None:
    assert kind in dict(CODES), "it has no line in the table"
    servicer, client = failing
    servicer.error = kind("what failed; what to do — ü")
    for call in (client.count, lambda: client.fetch_key_values("f", [1]), lambda: client.put_key_values("f", {})):
        with pytest.raises(errors.Memory3Error) as caught:
            call()
        assert type(caught.value) is kind and str(caught.value) == "what failed; what to do — ü"


def test_the_address_of_a_directory_in_use_arrives(failing: tuple[Failing, Client]) -> None:
    servicer, client = failing
    servicer.error = errors.DirectoryInUse("in use", "host:1")
    with pytest.raises(errors.DirectoryInUse) as caught:
        client.count()
    assert caught.value.address == "host:1"


def test_a_mistake_of_ours_tells_the_caller_only_its_kind(
    failing: tuple[Failing, Client], caplog: pytest.LogCaptureFixture
) -> None:
    servicer, client = failing
    servicer.error = KeyError("a secret")
    with pytest.raises(errors.Memory3Error, match="KeyError") as caught:
        client.count()
    assert "secret" not in str(caught.value) and "a secret" in caplog.text


def test_an_error_of_a_library_user_travels_as_its_nearest_class() -> None:
    class Own(errors.NotFound):
        pass

    assert status_of(Own("x")).code == status_of(errors.NotFound("x")).code
