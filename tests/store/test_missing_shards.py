"""Of several shards one is damaged: it is named, what needs it is refused, and the others serve on."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.errors import Corrupted, Unavailable
from memory3.store.placement import shard_of_key
from memory3.store.types import Hits

from .builders import DIMENSION, EMBEDDER, damage_value, embedded, vector_of

KEYS = [f"key {number}" for number in range(30)]
LOST = 1
SHARD = Path("collections/00000001") / f"shard-{LOST:04}"


def of_shard(shard: int) -> list[str]:
    return [key for key in KEYS if shard_of_key(key, 3) == shard]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with DataDirectory.open(tmp_path) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION, 3)
        collection.upsert([embedded(key, key) for key in KEYS])
    return tmp_path


@pytest.fixture(
    params=[
        "records are garbage",
        "records are gone",
        "another shard's records",
        "another shard's key-values",
        "all of it is gone",
    ]
)
def damaged(path: Path, request: pytest.FixtureRequest) -> Iterator[Collection]:
    records = path / SHARD / "records"
    if request.param == "records are garbage":
        (records / "data.mdb").write_bytes(b"garbage" * 10_000)
    elif request.param == "records are gone":
        (records / "data.mdb").unlink()
    elif request.param == "another shard's records":
        shutil.copy(path / SHARD.with_name("shard-0002") / "records" / "data.mdb", records / "data.mdb")
    elif request.param == "another shard's key-values":
        shutil.copy(path / SHARD.with_name("shard-0002") / "kv" / "data.mdb", path / SHARD / "kv" / "data.mdb")
    else:
        shutil.rmtree(path / SHARD)
    with DataDirectory.open(path) as directory:
        yield directory.collection("default")


def test_it_is_named(damaged: Collection) -> None:
    report = damaged.check(full=True)
    assert len(report.problems) == 1 and report.problems[0].startswith("shard 1 of collection 'default' is missing: ")
    assert report.documents == len(KEYS) - len(of_shard(LOST))
    stats = damaged.stats()
    assert stats.missing_shards == (LOST,) and len(stats.positions) == 2


def test_a_recall_says_which_were_not_asked(damaged: Collection) -> None:
    (hits,) = damaged.recall(vector_of(KEYS[0])[None], 100)
    assert isinstance(hits, Hits) and hits.missing_shards == (LOST,)
    assert {hit.key for hit in hits} == set(KEYS) - set(of_shard(LOST))


def test_what_needs_it_is_refused_and_the_others_serve_on(damaged: Collection) -> None:
    lost, there = of_shard(LOST), of_shard(0)
    for call in (
        lambda: damaged.get([there[0], lost[0]]),
        lambda: damaged.delete([lost[0]]),
        lambda: damaged.upsert([embedded(lost[0], "new")]),
        lambda: damaged.list(100),
        lambda: damaged.count(),
        lambda: damaged.fetch_key_values("model", [(LOST << 48) + 1]),
    ):
        with pytest.raises(Corrupted, match="shard 1 of collection 'default' is missing"):
            call()
    (stored,) = damaged.get(there[:1])
    assert stored is not None and stored.text == there[0]
    damaged.upsert([embedded(there[0], "new")])
    assert damaged.delete([there[1]]).deleted == (there[1],)
    assert damaged.put_key_values("model", [(1, b"x")]) in ([True], [False])


def test_a_closed_collection_says_so(path: Path) -> None:
    """Its threads were gone, and callers were told of those."""
    directory = DataDirectory.open(path)
    collection = directory.collection("default")
    directory.close()
    for call in (
        lambda: collection.recall(vector_of("x")[None], 5),
        lambda: collection.get(KEYS),
        lambda: collection.upsert([embedded(key, "new") for key in KEYS]),
        lambda: collection.count(),
        lambda: collection.positions(),
    ):
        with pytest.raises(Unavailable, match="is closed"):
            call()


def test_an_upsert_over_all_shards_says_what_was_done(damaged: Collection) -> None:
    """Nothing of it is stored, because that a shard is missing is known before."""
    with pytest.raises(Corrupted, match="is missing"):
        damaged.upsert([embedded(key, "new") for key in KEYS])
    (stored,) = damaged.get(of_shard(0)[:1])
    assert stored is not None and stored.text != "new"


def test_damage_in_one_of_several_shards_is_told_as_damage(path: Path) -> None:
    """The error named a table and a key, and could not be made again with another sentence."""
    damage_value(path / SHARD / "records", "documents", of_shard(LOST)[0].encode())
    with DataDirectory.open(path) as directory:
        collection = directory.collection("default")
        request = collection.upsert([embedded(key, "new") for key in KEYS], "request")
    damage_value(path / SHARD / "records", "requests", b"request")
    with DataDirectory.open(path) as directory:
        collection = directory.collection("default")
        with pytest.raises(Corrupted, match="of the 30 documents of this call are done"):
            collection.upsert([embedded(key, "new") for key in KEYS], "request")
        assert len(request) == len(KEYS)
