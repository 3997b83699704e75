"""Embeddings of real text: every reference and question of SQuAD, embedded once and kept in a file.

`R` references, `A` questions, `D` embedding size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from memory3.bench.real_data import data_folder, read_squad

Matrix = npt.NDArray[np.float32]
BATCH = 256


@dataclass(frozen=True, slots=True)
class Embeddings:
    """References (R, D) with their texts, and questions (A, D); float32, of length one."""

    texts: tuple[str, ...]
    references: Matrix
    questions: Matrix

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, texts=np.array(self.texts), references=self.references, questions=self.questions)


def load_embeddings(path: Path, data: Path | None = None) -> Embeddings:
    """Read the file, which is made first where there is none; minutes, once.

    Raises:
        DataMissing: there is no file, nor the data to make it of.
    """
    if not path.exists():
        _embed(data_folder(data)).save(path)
    with np.load(path) as found:
        return Embeddings(tuple(found["texts"].tolist()), found["references"], found["questions"])


def _embed(folder: Path) -> Embeddings:
    # Late, because torch takes seconds and nobody needs it once the file is there.
    from memory3.model.embedder import Embedder
    from memory3.model.language_model import LanguageModel

    documents, questions = read_squad(folder)
    model, embedder = LanguageModel.load(None), Embedder.load()
    texts = [text for document in documents for text in model.split(document.text)]

    def embed(sources: Sequence[str]) -> Matrix:
        return np.concatenate([embedder.embed(sources[at : at + BATCH]) for at in range(0, len(sources), BATCH)])

    return Embeddings(tuple(texts), embed(texts), embed([question.text for question in questions]))
