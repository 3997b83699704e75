"""Calls find their way: to this machine straight, to others as the environment says."""

import pytest
from memory3.client import Client
from memory3.cluster.server import Server
from memory3.store.errors import Unavailable
from memory3.wire.transport import is_here

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy")


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names a proxy at a port where nobody listens."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")


@pytest.mark.usefixtures("dead_proxy")
def test_calls_to_this_machine_go_round_a_proxy(server: Server, collection: str) -> None:
    """Behind a company's proxy every command failed, also beside its own server: gRPC asked the proxy for 127.0.0.1."""
    port = server.address.rpartition(":")[2]
    for address in (server.address, f"localhost:{port}", f"ipv4:127.0.0.1:{port}", f"dns:///localhost:{port}"):
        with Client(address, timeout_s=30) as client:
            assert client.count(collection=collection).documents == 0


@pytest.mark.usefixtures("dead_proxy")
def test_calls_to_other_machines_go_through_it() -> None:
    # An address for documentation: without the proxy the call would run into its deadline, or find no route.
    with Client("192.0.2.1:80", timeout_s=30) as client, pytest.raises(Unavailable, match=r"127\.0\.0\.1:1\b"):
        client.count()


@pytest.mark.parametrize(
    "address",
    [
        *("localhost:7333", "LOCALHOST:7333", "localhost", "127.0.0.1:7333", "127.9.9.9:7333", "[::1]:7333", "::1"),
        *("unix:/tmp/socket", "unix:///tmp/socket", "unix-abstract:name", "dns:localhost:1", "dns:///localhost:1"),
        *("dns://8.8.8.8/127.0.0.1:1", "ipv4:127.0.0.1:1", "ipv6:[::1]:1", "0.0.0.0:7333", "[::]:7333"),
    ],
)
def test_addresses_of_this_machine(address: str) -> None:
    assert is_here(address)


@pytest.mark.parametrize(
    "address",
    [
        *("example.org:7333", "localhost.example.org:1", "128.0.0.1:1", "10.0.0.1:7333", "[2001:db8::1]:1", "dns:x:1"),
        *("my-localhost:1", "dns://127.0.0.1/example.org:1", "ipv4:192.0.2.1:1", ":7333", "[", "[]:1"),
    ],
)
def test_addresses_of_other_machines(address: str) -> None:
    assert not is_here(address)
