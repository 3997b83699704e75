"""Vectors of real texts for benchmarks of the index, embedded once and kept in a folder; more of them by perturbing.

`N` vectors, `D` embedding size. All are float32 and of length one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from memory3.bench.real_data import data_folder, read_countries, read_squad

NOISE = 0.6
"""Length of the Gaussian noise that a perturbed copy has over its original: their cosine is about 0.86."""
QUESTIONS = 1_000
_SEED = 20

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TextVectors:
    """References of real texts (N, D) and questions about some of them (Q, D), both in a random order."""

    references: Matrix
    questions: Matrix


def text_vectors(folder: Path | None, cache: Path, references: int) -> TextVectors:
    """Embed all SQuAD references and, up to `references` in all, those of country profiles; or read the cache.

    Raises:
        DataMissing: they are not in the cache, and the folder does not hold the data.
    """
    path = cache / f"references-{references}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        found = _embedded(data_folder(folder), references)
        np.savez(path, references=found.references, questions=found.questions)
    with np.load(path) as stored:
        return TextVectors(stored["references"], stored["questions"])


def grown(vectors: Matrix, count: int) -> Matrix:
    """Return `count` vectors: these first, then perturbed copies of them, each of another length of noise."""
    if count <= len(vectors):
        return vectors[:count]
    random = np.random.default_rng(_SEED)
    rows = np.empty((count, vectors.shape[1]), np.float32)
    rows[: len(vectors)] = vectors
    for start in range(len(vectors), count, len(vectors)):
        part = rows[start : start + len(vectors)]
        part[:] = perturbed(vectors[: len(part)], random)
    return rows


def perturbed(vectors: Matrix, random: np.random.Generator) -> Matrix:
    """Return each vector with noise of length `NOISE`, at length one again."""
    noise = random.standard_normal(vectors.shape, np.float32)
    noise *= NOISE / np.sqrt(vectors.shape[1])
    noise += vectors
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    return noise


def queries(vectors: TextVectors, count: int) -> Matrix:
    """Return `count` queries: half of them real questions, half of them perturbed references."""
    random = np.random.default_rng(_SEED + 1)
    half = min(count // 2, len(vectors.questions))
    chosen = random.choice(len(vectors.references), count - half)
    return np.concatenate([vectors.questions[:half], perturbed(vectors.references[chosen], random)])


def _embedded(folder: Path, references: int) -> TextVectors:
    from memory3.model.embedder import Embedder
    from memory3.model.language_model import LanguageModel

    model, embedder = LanguageModel.load(None), Embedder.load()
    paragraphs, asked = read_squad(folder)
    texts: list[str] = []
    for document in [*paragraphs, *read_countries(folder)]:
        texts += model.split(document.text)
        if len(texts) >= references:
            break
    random = np.random.default_rng(_SEED)
    return TextVectors(
        random.permutation(embedder.embed(texts[:references])),
        embedder.embed(_sample([question.text for question in asked], QUESTIONS, random)),
    )


def _sample(texts: Sequence[str], count: int, random: np.random.Generator) -> list[str]:
    return [texts[at] for at in random.choice(len(texts), min(count, len(texts)), replace=False)]
