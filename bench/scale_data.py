"""Memories by the million: rounds of the same real documents, whose vectors are perturbed after the first round.

`R` references of a round, `Q` questions, `D` embedding size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from memory3.bench.index_vectors import Matrix, perturbed
from memory3.bench.peers.work import percent, percent_of
from memory3.bench.real_data import data_folder, read_countries, read_squad
from memory3.store.types import Document, EmbeddedDocument, Reference

COLLECTION = "scale"
FINGERPRINT = "bench"
_SEED = 22
_EMBEDDED_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class RealDocuments:
    """The documents of one round, cut into references, and questions about some of them."""

    texts: Sequence[str]
    """Of the R references, in the order of the documents."""
    sizes: npt.NDArray[np.int64]
    """References of each document; they sum up to R."""
    references: Matrix
    """(R, D)"""
    questions: Matrix
    """(Q, D)"""
    asked: npt.NDArray[np.int64]
    """(Q,): the document that each question was asked about."""

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            texts=np.array(self.texts),
            sizes=self.sizes,
            references=self.references,
            questions=self.questions,
            asked=self.asked,
        )


def real_documents(path: Path, data: Path | None, references: int) -> RealDocuments:
    """Read the file; where there is none, embed SQuAD paragraphs and country profiles, `references` in all, once.

    Raises:
        DataMissing: there is no file, nor the data to make it of.
    """
    if not path.exists():
        _embedded(data_folder(data), references).save(path)
    with np.load(path) as found:
        return RealDocuments(
            found["texts"].tolist(), found["sizes"], found["references"], found["questions"], found["asked"]
        )


def round_vectors(real: RealDocuments, number: int) -> Matrix:
    """Return the vectors (R, D) of a round: the real ones in round 0, each perturbed in a way of its own later."""
    if not number:
        return real.references
    return perturbed(real.references, np.random.default_rng([_SEED, number]))


def round_documents(real: RealDocuments, number: int) -> Iterator[EmbeddedDocument]:
    """Yield the documents of a round, each with the number of its round and one of a hundred groups as metadata."""
    vectors = round_vectors(real, number)
    start = 0
    for place, size in enumerate(real.sizes.tolist()):
        texts = real.texts[start : start + size]
        metadata = {"round": number, "percent": percent(number * len(real.sizes) + place)}
        document = Document(f"{number:06}/{place:06}", "".join(texts), metadata)
        yield EmbeddedDocument(document, list(map(Reference, texts, vectors[start : start + size])))
        start += size


def round_percents(real: RealDocuments, number: int) -> npt.NDArray[np.int64]:
    """Return the group of each reference (R,) of a round."""
    places = np.arange(len(real.sizes)) + number * len(real.sizes)
    return np.repeat(percent_of(places), real.sizes)


def key_values(seq: int, size: int) -> bytes:
    """Return the key-values of a memory: bytes that do not compress, the same each time."""
    return np.random.Generator(np.random.SFC64(seq)).bytes(size)


def bytes_on_disk(directory: Path) -> dict[str, int]:
    """Return the bytes that the shard's files take on the disk: records, key-values, saved index."""
    (shard,) = directory.glob("collections/*/shard-*")
    files = {"records": shard / "records/data.mdb", "kv": shard / "kv/data.mdb", "index": shard / "index.snapshot"}
    return {name: file.stat().st_blocks * 512 if file.exists() else 0 for name, file in files.items()}


def _embedded(folder: Path, references: int) -> RealDocuments:
    from memory3.model.embedder import Embedder
    from memory3.model.language_model import LanguageModel

    model, embedder = LanguageModel.load(None), Embedder.load()
    paragraphs, questions = read_squad(folder)
    texts: list[str] = []
    sizes: list[int] = []
    numbers: dict[str, int] = {}
    for document in [*paragraphs, *read_countries(folder)]:
        pieces = model.split(document.text)[: references - len(texts)]
        if not pieces:
            break
        numbers[document.key] = len(sizes)
        sizes.append(len(pieces))
        texts += pieces
    known = [question for question in questions if question.key in numbers]

    def embed(sources: Sequence[str]) -> Matrix:
        parts = [sources[at : at + _EMBEDDED_AT_ONCE] for at in range(0, len(sources), _EMBEDDED_AT_ONCE)]
        return np.concatenate([embedder.embed(part) for part in parts])

    return RealDocuments(
        texts,
        np.array(sizes),
        embed(texts),
        embed([question.text for question in known]),
        np.array([numbers[question.key] for question in known]),
    )
