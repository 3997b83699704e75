"""The comparison of stores: its work is right, a wrong store is found out, and the script runs from end to end."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from memory3.bench import store as script
from memory3.bench import turns
from memory3.bench.peers import bare_grpc, measures
from memory3.bench.peers.bare_store import BareStore
from memory3.bench.peers.embeddings import Embeddings
from memory3.bench.peers.faiss_lmdb import FLAT, FaissIndex
from memory3.bench.peers.protocol import Item
from memory3.bench.peers.registry import MODULES
from memory3.bench.peers.timing import calls_per_second
from memory3.bench.peers.work import FILTERS, KEY_VALUE_BYTES, K, Work, load_work, make_work, percent, percent_of
from memory3.bench.store_report import markdown

REFERENCES, SIZE, KEY_VALUES = 40, 200, 100


@pytest.fixture(scope="module")
def embeddings() -> Embeddings:
    """Vectors that stand for text: questions lie near references, as they do."""
    random = np.random.default_rng(3)
    references = random.standard_normal((REFERENCES, 384), dtype=np.float32)
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    questions = references + 0.03 * random.standard_normal(references.shape, dtype=np.float32)
    questions /= np.linalg.norm(questions, axis=1, keepdims=True)
    return Embeddings(tuple(f"text {number}" for number in range(REFERENCES)), references, questions)


@pytest.fixture(scope="module")
def work(embeddings: Embeddings, tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("work")
    make_work(folder, embeddings, SIZE, KEY_VALUES, 10)
    return load_work(folder)


def test_the_answers_are_those_of_exact_search(work: Work) -> None:
    scores = work.questions @ work.vectors[:SIZE].T
    assert len(work.questions) == 10
    assert np.array_equal(work.exact, np.argsort(-scores, axis=1)[:, :K])
    for share, where in FILTERS.items():
        kept = [key for key in range(SIZE) if getattr(work.item(key), where.field) == where.value]
        expected = np.array(kept)[np.argsort(-scores[:, kept], axis=1)[:, :K]]
        assert np.array_equal(work.filtered[share], expected)


def test_questions_are_about_items_with_key_values(work: Work) -> None:
    carrying = [key for key in range(SIZE) if work.key_values(key)]
    assert len(carrying) == KEY_VALUES
    assert work.live_bytes == SIZE * 384 * 4 + KEY_VALUES * KEY_VALUE_BYTES
    assert set(work.exact.ravel().tolist()) <= set(carrying)


def test_items_are_the_same_each_time_and_versions_differ(work: Work) -> None:
    assert work.item(7).key_values == work.item(7).key_values != work.item(7, 1).key_values
    assert work.item(7).text != work.item(7, 1).text  # an upsert of the same text would change nothing
    assert np.allclose(np.linalg.norm(work.vectors, axis=1), 1, atol=1e-5)
    assert len({work.vectors[key].tobytes() for key in range(SIZE)}) == SIZE


def test_filters_keep_the_share_that_they_name() -> None:
    keys = np.arange(100_000)
    shares = np.bincount(percent_of(keys), minlength=100) / len(keys)
    assert abs(shares - 0.01).max() < 0.002
    assert [percent(key) for key in range(50)] == percent_of(keys)[:50].tolist()


def test_a_bare_server_answers_as_the_store_in_process(work: Work, tmp_path: Path) -> None:
    store = FLAT.open(tmp_path, SIZE)
    measures.load(store, work, 60)
    server = bare_grpc.serve(store)
    client = bare_grpc.BareClient(server.address)
    for question in work.questions:
        expected = [found.key_values for found in store.recall(question, K)]
        assert [found.key_values for found in client.recall(question)] == expected
    client.close()
    server.stop()
    store.close()


def test_values_of_any_length_travel() -> None:
    for values in ([], [b""], [b"a", b"", b"bcd"]):
        assert bare_grpc.unpack(bare_grpc.pack(values)) == values


class _Keeps(BareStore):
    def delete(self, keys: Sequence[int]) -> None:
        """Forgets nothing."""


class _Confuses(BareStore):
    def upsert(self, items: Sequence[Item]) -> None:
        """Stores each item with the key-values of the one before it."""
        values = [items[-1].key_values, *(item.key_values for item in items[:-1])]
        mixed = zip(items, values, strict=True)
        super().upsert([Item(item.key, item.text, item.vector, value, item.percent) for item, value in mixed])


class _Loses(BareStore):
    def upsert(self, items: Sequence[Item]) -> None:
        super().upsert(items[:-1])


@pytest.mark.parametrize(
    ("kind", "says"), [(_Keeps, "came back after its delete"), (_Confuses, "other than"), (_Loses, "is not found")]
)
def test_a_store_that_is_wrong_gets_no_figures(kind: type[BareStore], says: str, work: Work, tmp_path: Path) -> None:
    with pytest.raises(measures.Wrong, match=says):
        measures.check(kind(tmp_path, FaissIndex(1, "Flat")), FLAT, work)


def test_a_right_store_passes_the_check(work: Work, tmp_path: Path) -> None:
    measures.check(FLAT.open(tmp_path, SIZE), FLAT, work)


def test_what_a_caller_raises_is_raised() -> None:
    def call(number: int) -> None:
        raise measures.Wrong(f"call {number}")

    with pytest.raises(measures.Wrong, match="call"):
        calls_per_second(call, 2, 5)


@pytest.mark.parametrize("arguments", [["--peers", "nobody"], ["--measures", "luck"], ["--size", "0"]])
def test_names_and_numbers_are_checked(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        script.parsed(arguments)
    assert ended.value.code == 2


def test_all_means_all() -> None:
    assert script.parsed(["--peers", "all"]).peers == list(MODULES)


@pytest.mark.timeout(300)
def test_the_comparison_runs_from_end_to_end(embeddings: Embeddings, tmp_path: Path) -> None:
    embeddings.save(tmp_path / "embeddings.npz")
    out = tmp_path / "results.json"
    command = [sys.executable, str(Path(script.__file__)), "--out", str(out), "--folder", str(tmp_path / "stores")]
    command += ["--size", str(SIZE), "--embeddings", str(tmp_path / "embeddings.npz")]
    short = ["--calls", "10", "--seconds", "0.1", "--questions", "10"]
    ran = subprocess.run([*command, *short, "--peers", "memory3,faiss-flat"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    results = json.loads(out.read_text())
    peers = results["runs"][f"{SIZE}/{SIZE}"]["peers"]
    assert [*peers] == ["memory3", "faiss-flat"]
    for name, peer in peers.items():
        assert peer["checked"]
        assert peer["tuned"]["recall"] >= measures.RECALL_MIN, name
        assert peer["network"]["recall"] >= measures.RECALL_MIN, name
        assert peer["restart"]["acknowledged"] > 0
        assert peer["restart"]["lost"] == 0
        assert peer["size"]["disk"] > peer["size"]["live"]
    assert [found["recall"] for found in peers["faiss-flat"]["filtered"].values()] == [1, 1]
    times = peers["memory3"]["floors"]["times"]
    assert times["network"]["p50_ms"] > times["echo"]["p50_ms"]
    assert not [*(tmp_path / "stores").iterdir()]
    # What is finished is not run again; what fails is told, and does not keep the others from going on.
    failing = [*command, "--load-limit", "0", "--peers", "faiss-ivf,memory3,faiss-flat"]
    ran = subprocess.run(failing, capture_output=True, text=True)
    assert ran.returncode == 1
    results = json.loads(out.read_text())
    finished = results["runs"][f"{SIZE}/{SIZE}"]["peers"]
    assert {name: finished[name] for name in peers} == peers
    text = markdown(results)
    assert "- FAISS IVF + LMDB (floor): Wrong: the load was stopped after 0 s" in text
    assert "| Memory3 | - | 1.000 |" in text
    assert "ratio **" in text and "commit " in text


def test_turns_are_measured_with_and_without(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(turns, "load_work", lambda folder: work)
    monkeypatch.setattr("sys.argv", ["turns", "unused", "--seconds", "0.1", "--rounds", "1", "--folder", str(tmp_path)])
    turns.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == ["| recalls of 1", "| recalls of 4", "| recalls of 16", "| mixed load of 4"]
    assert all(float(row[1].replace(",", "")) > 0 and float(row[2].replace(",", "")) > 0 for row in rows)
    assert list(tmp_path.iterdir()) == []
