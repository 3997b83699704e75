"""The benchmark of a whole shard: what it builds is what exact search is given, and both parts run, on few memories."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory3.bench import scale
from memory3.bench.memory import NoLimit, Peak, memory_bytes, memory_limit
from memory3.bench.scale_data import RealDocuments, round_documents, round_percents, round_vectors
from memory3.bench.scale_exact import exact
from memory3.store import limits

REFERENCES, DOCUMENTS, DIMENSION = 600, 50, 32


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RealDocuments]:
    random = np.random.default_rng(5)
    vectors = random.standard_normal((REFERENCES, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    questions = vectors + 0.02 * random.standard_normal(vectors.shape).astype(np.float32)
    questions /= np.linalg.norm(questions, axis=1, keepdims=True)
    sizes = np.full(DOCUMENTS, REFERENCES // DOCUMENTS)
    texts = [f"text {number} " for number in range(REFERENCES)]
    asked = np.repeat(np.arange(DOCUMENTS), sizes)
    found = RealDocuments(texts, sizes, vectors, questions, asked)
    path = tmp_path_factory.mktemp("real") / "real.npz"
    found.save(path)
    return path, found


def test_the_documents_of_a_round_hold_its_vectors_in_order(real: tuple[Path, RealDocuments]) -> None:
    for number in (0, 1):
        documents = list(round_documents(real[1], number))
        vectors = np.stack([reference.vector for document in documents for reference in document.references])
        np.testing.assert_array_equal(vectors, round_vectors(real[1], number))
        groups = [document.document.metadata["percent"] for document in documents for _ in document.references]
        assert groups == round_percents(real[1], number).tolist()
    assert not np.array_equal(round_vectors(real[1], 1), round_vectors(real[1], 2))


def test_exact_search_goes_through_all_rounds(real: tuple[Path, RealDocuments]) -> None:
    rounds, asked = 4, real[1].questions[:20]
    vectors = np.concatenate([round_vectors(real[1], number) for number in range(rounds)])
    percents = np.concatenate([round_percents(real[1], number) for number in range(rounds)])
    found = exact(real[1], rounds, asked, 5)
    for name, kept in (("all", percents >= 0), ("1 %", percents == 7), ("10 %", percents < 10)):
        rows = np.flatnonzero(kept)
        order = np.argsort(-(asked @ vectors[rows].T), axis=1)[:, :5]
        np.testing.assert_array_equal(found[name].seqs, rows[order] + 1)


def test_it_builds_stops_goes_on_and_measures(
    real: tuple[Path, RealDocuments],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(limits, "EXACT_MAX", 1_000)
    monkeypatch.setattr(scale, "BATCH", 100)
    directory, out = str(tmp_path / "data"), tmp_path / "out.json"
    common = [directory, "--real", str(real[0])]
    build = ["build", *common, "--memories", "3000", "--key-values", "600", "--key-value-bytes", "100"]
    add_round = scale._add_round

    def terminated(*given: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        add_round(*given)

    with monkeypatch.context() as stopping:
        stopping.setattr(scale, "_add_round", terminated)
        assert scale.main([*build, "--log-every", "0"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["memories"] == REFERENCES
    assert scale.main(build) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["state"], last["memories"], last["warm"]) == ("clustered", 3_000, 600)
    assert last["index"] == {"kind": "QUANTIZED", "lists": last["index"]["lists"], "clustering": False}
    measure = ["measure", *common, "--out", str(out), "--questions", "20", "--calls", "20", "--seconds", "0.1"]
    assert scale.main(measure) == 0
    figures = json.loads(out.read_text())["figures"]
    assert figures["recall@5 among all"] > 0.9
    assert figures["recall@5 among 1 %"] == 1.0
    assert figures["share of hits with key-values"] > 0.9
    assert figures["check, problems"] == []
    assert (figures["memories"], figures["warm"]) == (3_000, 600)
    assert "| recall@5 among 10 % |" in capsys.readouterr().out
    (snapshot,) = (tmp_path / "data").glob("collections/*/shard-*/index.snapshot")
    saved = snapshot.read_bytes()
    assert scale.main([*measure, "--without-index"]) == 0
    assert "| start without saved index, peak bytes |" in capsys.readouterr().out
    assert snapshot.read_bytes() == saved


def test_the_most_memory_is_remembered() -> None:
    before = memory_bytes()["anonymous"]
    with Peak() as peak:
        held = bytearray(200 << 20)
        held[:: 1 << 12] = bytes(len(held) >> 12)
        end = time.monotonic() + 10
        while peak.anonymous < before + (100 << 20) and time.monotonic() < end:
            time.sleep(0.01)
        del held
    assert peak.anonymous > before + (100 << 20) > memory_bytes()["anonymous"]


def test_a_bound_that_nobody_keeps_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("memory3.bench.memory._ROOT", tmp_path)
    with pytest.raises(NoLimit, match="without --memory-gib"), memory_limit(1.0):
        pass
