"""Damaged values over real gRPC: named, never served, and mended by what is written anew."""

from pathlib import Path

import pytest
from memory3.client import Client
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.store.errors import Corrupted, Unavailable
from memory3.store.types import Document

BEES = Document("bees", "Mira Sandoval keeps bees on the roof of the old post office.")


def test_a_damaged_text_is_data_loss_and_can_be_mended(tmp_path: Path, random_model: str) -> None:
    ferry = Document("ferry", "The ferry to the island leaves at nine sharp.")
    with Embedded(tmp_path / "data", model=random_model) as memory:
        memory.upsert([BEES, ferry])
    _flip(tmp_path / "data", "records", b"leaves at nine sharp")
    with (
        Embedded(tmp_path / "data", model=random_model) as memory,
        Server(memory, write_in_background=False) as server,
        Client(server.address) as client,
    ):
        with pytest.raises(Corrupted):
            client.get("ferry")
        assert [hit.key for hit in client.recall("When does the ferry leave?")] == ["bees"]
        assert client.ask("When does the ferry leave?", max_tokens=2).result().memories[0].key == "bees"
        assert client.stats().quarantined > 0
        assert client.upsert(ferry)[0].changed, "the damaged document was taken for unchanged"
        assert client.recall("When does the ferry leave?")[0].key == "ferry"
        assert client.check(full=True).ok


def test_damaged_key_values_are_never_read_and_written_again(tmp_path: Path, random_model: str) -> None:
    with Embedded(tmp_path / "data", model=random_model) as memory:
        memory.upsert(BEES)
        assert memory.write() == 1
        model = memory.models.language_model
        seq = memory.recall("bees", 1)[0].seq
        (values,) = memory.fetch_key_values(model.fingerprint, [seq])
    assert values is not None
    _flip(tmp_path / "data", "kv", values[100:164])
    with (
        Embedded(tmp_path / "data", model=random_model) as memory,
        Server(memory, write_in_background=False) as server,
        Client(server.address) as client,
    ):
        with pytest.raises(Corrupted, match="are cold now"):
            client.fetch_key_values(model.fingerprint, [seq])
        assert client.fetch_key_values(model.fingerprint, [seq]) == [None]
        client.ask("Who keeps bees?", max_tokens=2).result()
        assert client.fetch_key_values(model.fingerprint, [seq]) == [values]
        assert client.check(full=True).ok


def test_an_answer_heals_damaged_key_values_itself(tmp_path: Path, random_model: str) -> None:
    with Embedded(tmp_path / "data", model=random_model) as memory:
        memory.upsert(BEES)
        memory.write()
        (values,) = memory.fetch_key_values(memory.models.language_model.fingerprint, [1])
        before = memory.ask("Who keeps bees?", max_tokens=4).result()
    assert values is not None
    _flip(tmp_path / "data", "kv", values[100:164])
    with Embedded(tmp_path / "data", model=random_model) as memory:
        after = memory.ask("Who keeps bees?", max_tokens=4).result()
        assert (after.text, [hit.key for hit in after.memories]) == (before.text, ["bees"])


def _flip(data: Path, environment: str, content: bytes) -> None:
    """Change one bit of a stored value, as a bad disk would."""
    (path,) = data.glob(f"collections/*/shard-0000/{environment}/data.mdb")
    stored = bytearray(path.read_bytes())
    at = stored.find(content)
    assert at >= 0
    while at >= 0:  # older pages may hold copies
        stored[at + len(content) // 2] ^= 1
        at = stored.find(content)
    path.write_bytes(stored)


def test_an_answer_ends_when_the_file_of_key_values_breaks_under_it(tmp_path: Path, random_model: str) -> None:
    """What LMDB cannot read is no damaged value that could be removed; the next start makes the file anew."""
    with Embedded(tmp_path / "data", model=random_model) as memory:
        memory.upsert(BEES)
        memory.write()
        (path,) = (tmp_path / "data").glob("collections/*/shard-0000/kv/data.mdb")
        with open(path, "r+b") as file:
            file.seek(2 * 4096)
            file.write(bytes(path.stat().st_size - 2 * 4096))
        with pytest.raises((Corrupted, Unavailable), match="kv"):
            memory.ask("Who keeps bees?", max_tokens=2).result()
    with Embedded(tmp_path / "data", model=random_model) as memory:
        assert memory.ask("Who keeps bees?", max_tokens=2).result().memories[0].key == "bees"
        assert memory.check(full=True).ok
