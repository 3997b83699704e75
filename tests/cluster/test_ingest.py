"""Adding again what stands already: skipped where it is whole, mended where it is damaged."""

from memory3.cluster.embedded import Embedded
from memory3.store.format import encode_seq
from memory3.store.types import Document

DOCUMENTS = [Document(f"{number}", f"Mira keeps {number} hives.") for number in range(5)]


def damage_text(memory: Embedded, collection: str, key: str) -> None:
    """Cut a byte off a stored text behind everyone's back, as a disk may."""
    stored = memory.get(key, collection=collection)
    assert stored is not None
    records = memory.opened(collection)._shards[0]._records
    place, handle = encode_seq(stored.memories[0]), records.memories._handle
    with records.environment.writing() as txn:
        txn.put(place, (txn.get(place, db=handle) or b"")[:-1], db=handle)


def test_adding_a_folder_again_mends_what_is_damaged_in_it(memory: Embedded, collection: str) -> None:
    """The texts of unchanged documents were read for their versions, and one damaged text that nobody had met before
    failed the whole batch as Corrupted, with the advice to do just what had been done: to add it again."""
    before = memory.upsert(DOCUMENTS, collection=collection)
    damage_text(memory, collection, "1")
    damage_text(memory, collection, "3")
    after = memory.upsert(DOCUMENTS, collection=collection)
    assert [result.key for result in after if result.changed] == ["1", "3"]
    assert [result.version for result in after][::2] == [result.version for result in before][::2]
    found = memory.get([document.key for document in DOCUMENTS], collection=collection)
    assert [one and one.text for one in found] == [document.text for document in DOCUMENTS]
    assert memory.check(full=True, collection=collection).problems == ()
