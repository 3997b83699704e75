"""A writer killed at any moment: what was acknowledged stands, what was deleted never answers."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from memory3.store.collection import Collection

from .builders import collection_at, embedded, vector_of

KILLS = 8
KEYS = 30

# Each line is written with one system call: "begin" before a change and "done" after it was acknowledged.
WRITER = """
import os, random, sys
sys.path.insert(0, sys.argv[3])
from memory3.store import limits
from builders import collection_at, embedded

limits.SNAPSHOT_CHANGES_MIN, limits.CHANGES_KEPT = 40, 60
say = lambda *words: os.write(1, (" ".join(map(str, words)) + "\\n").encode())
choose = random.Random(int(sys.argv[2]))
with collection_at(sys.argv[1]) as collection:
    say("open")
    for number in range(1_000_000):
        key, name = f"key {choose.randrange(30)}", f"{sys.argv[2]}.{number}"
        if choose.random() < 0.3:
            say("begin", key.replace(" ", "_"), "-")
            collection.delete([key])
            say("done")
        else:
            say("begin", key.replace(" ", "_"), name)
            document = embedded(key, *[f"{key} {name} {part}. " for part in range(choose.randint(1, 3))])
            (result,) = collection.upsert([document])
            say("done")
            (stored,) = collection.get([key])
            collection.put_key_values("model", [(seq, f"{seq:20}".encode()) for seq in stored.memories])
"""


def run_and_kill(path: Path, seed: int, after_s: float) -> list[list[str]]:
    """Let a writer write for a while, kill it, and return what it said."""
    here = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(seed), here], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(after_s)
        writer.kill()
        said = writer.stdout.read()
    assert first == "open\n"
    return [line.split() for line in said.splitlines()]


def allowed_after(said: list[list[str]], before: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return for each key the versions that may stand now: the acknowledged one, or also the one under way."""
    allowed = dict(before)
    for number, line in enumerate(said):
        if line[0] == "begin":
            key, name = line[1].replace("_", " "), line[2]
            done = number + 1 < len(said) and said[number + 1] == ["done"]
            allowed[key] = {name} if done else allowed[key] | {name}
    return allowed


def found_in(collection: Collection) -> dict[str, str]:
    """Return which version of each document stands, having recalled each of its memories and its key-values."""
    found = {}
    for stored in collection.list(1000).documents:
        names = {piece.split()[2] for piece in stored.text.split(". ") if piece}
        assert len(names) == 1, f"document {stored.key!r} mixes versions: {stored.text!r}"
        found[stored.key] = names.pop()
        for memory in collection.memories(stored.memories):
            assert memory is not None
            (hit,) = collection.recall(vector_of(memory.text)[None], 1)[0]
            assert hit.text == memory.text
        for seq, value in zip(stored.memories, collection.fetch_key_values("model", stored.memories), strict=True):
            assert value in (None, f"{seq:20}".encode())
    return found


def test_nothing_acknowledged_is_lost_and_nothing_deleted_answers(tmp_path: Path) -> None:
    allowed: dict[str, set[str]] = {f"key {number}": {"-"} for number in range(KEYS)}
    pauses = random.Random(1)
    done = 0
    for kill in range(KILLS):
        said = run_and_kill(tmp_path, kill, pauses.uniform(0.05, 0.6))
        done += said.count(["done"])
        allowed = allowed_after(said, allowed)
        with collection_at(tmp_path) as collection:
            found = found_in(collection)
            everything = collection.recall(vector_of("anything")[None], 1000)[0]
            assert collection.check(full=True).problems == ()
            # The next writer must have nothing saved to lean on that the killed one did not save itself.
            collection._shards[0].close(save=False)
        for key, names in allowed.items():
            assert found.get(key, "-") in names, (kill, key)
        assert {(hit.key, hit.text.split()[2]) for hit in everything} == set(found.items())
        allowed = {key: {found.get(key, "-")} for key in allowed}
    assert done > 50


def test_a_process_that_only_read_leaves_nothing_behind(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("key", "text")])
    size = (tmp_path / "collections").stat().st_size
    reader = "import os, sys; sys.path.insert(0, sys.argv[2]); from builders import collection_at\n"
    reader += "with collection_at(sys.argv[1]) as collection: collection.count(); os.kill(os.getpid(), 9)"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", reader, str(tmp_path), os.path.dirname(__file__)], timeout=60)
    with collection_at(tmp_path) as collection:
        assert np.isclose(collection.recall(vector_of("text")[None], 1)[0][0].score, 1)
        assert collection.check(full=True).problems == ()
    assert (tmp_path / "collections").stat().st_size == size
