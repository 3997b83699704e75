"""The work of the comparison: items of real text, questions about them, and the right answers.

`N` items, `S` spare ones that changes come from, `R` references, `Q` questions, `D` embedding size, `K` results.
Item `i` is reference `i % R`; beyond the first R items they are copies with noise, so that a set of any size keeps
the shape of real text. Questions are real ones, about items that have key-values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from memory3.bench.peers.embeddings import Embeddings, Matrix
from memory3.bench.peers.protocol import Item, Where

K = 5
KEY_VALUE_BYTES = 39_424
SPARE = 10_000
NOISE = 0.5
"""Length of the noise on a copy, before it is brought back to length one: a cosine of 0.89 with its reference."""
FILTERS = {"1 %": Where("percent", 7), "10 %": Where("tenth", 3)}
_SEED = 20
_BLOCK = 50_000

Keys = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Work:
    """Vectors (N + S, D), questions (Q, D), and for each question the keys (Q, K) of its nearest among the N.

    `filtered` has the same for each of `FILTERS`. The first `carriers` references' items have key-values.
    """

    size: int
    carriers: int
    texts: Sequence[str]
    vectors: Matrix
    questions: Matrix
    exact: Keys
    filtered: dict[str, Keys]

    def item(self, key: int, version: int = 0) -> Item:
        """The item under a key; another version has other key-values."""
        text = f"{self.texts[key % len(self.texts)]} [{key}.{version}]"
        return Item(key, text, np.array(self.vectors[key]), self.key_values(key, version), percent(key))

    def key_values(self, key: int, version: int = 0) -> bytes:
        """Bytes that do not compress, the same each time; empty where the item has none."""
        if key < self.size and key % len(self.texts) >= self.carriers:
            return b""
        return np.random.Generator(np.random.SFC64([key, version])).bytes(KEY_VALUE_BYTES)

    def batches(self, count: int) -> Iterator[list[Item]]:
        """The N items, `count` at a time."""
        for start in range(0, self.size, count):
            yield [self.item(key) for key in range(start, min(start + count, self.size))]

    @property
    def live_bytes(self) -> int:
        """Bytes of the N items' vectors and key-values."""
        copies, rest = divmod(self.size, len(self.texts))
        carrying = copies * self.carriers + min(rest, self.carriers)
        return int(self.size * self.vectors.shape[1] * 4 + carrying * KEY_VALUE_BYTES)


def percent(key: int) -> int:
    """A number of 0 to 99 that has nothing to do with the vector: Knuth's multiplicative hash."""
    return (key * 2_654_435_761 >> 11) % 100


def make_work(folder: Path, embeddings: Embeddings, size: int, key_values: int, questions: int) -> None:
    """Write the work of `size` items, of which about `key_values` have key-values, to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    references = len(embeddings.texts)
    carriers = min(references, max(1, -(-references * key_values // size)))
    vectors = np.lib.format.open_memmap(
        folder / "vectors.npy", mode="w+", dtype=np.float32, shape=(size + SPARE, embeddings.references.shape[1])
    )
    for start in range(0, len(vectors), _BLOCK):
        keys = np.arange(start, min(start + _BLOCK, len(vectors)))
        vectors[keys] = _copies(embeddings.references, keys)
    vectors.flush()
    every = np.arange(size)
    asked = embeddings.questions[_near(embeddings, carriers)[: 2 * questions]]
    exact = nearest(asked, vectors[:size], every)
    answered = np.flatnonzero((exact % references < carriers).all(axis=1))[:questions]
    asked, exact = asked[answered], exact[answered]
    np.save(folder / "questions.npy", asked)
    np.save(folder / "exact.npy", exact)
    percents = percent_of(every)
    for where in FILTERS.values():
        kept = every[(percents if where.field == "percent" else percents % 10) == where.value]
        np.save(folder / f"{where.field}.npy", nearest(asked, vectors[kept], kept))
    np.savez(folder / "rest.npz", texts=np.array(embeddings.texts), size=size, carriers=carriers)


def load_work(folder: Path) -> Work:
    """Read what `make_work` wrote; the vectors stay in the file."""
    with np.load(folder / "rest.npz") as rest:
        return Work(
            size=int(rest["size"]),
            carriers=int(rest["carriers"]),
            texts=rest["texts"].tolist(),
            vectors=np.load(folder / "vectors.npy", mmap_mode="r"),
            questions=np.load(folder / "questions.npy"),
            exact=np.load(folder / "exact.npy"),
            filtered={name: np.load(folder / f"{where.field}.npy") for name, where in FILTERS.items()},
        )


def percent_of(keys: Keys) -> Keys:
    return (keys.astype(np.uint64) * np.uint64(2_654_435_761) >> np.uint64(11)).astype(np.int64) % 100


def nearest(queries: Matrix, vectors: Matrix, keys: Keys, k: int = K) -> Keys:
    """Exact search: for each query (Q, D) the keys (Q, K) of the vectors (N, D) of greatest inner product."""
    scores = np.full((len(queries), 0), -2, dtype=np.float32)
    found = np.full((len(queries), 0), -1, dtype=np.int64)
    rows = np.arange(len(queries))[:, None]
    for start in range(0, len(vectors), _BLOCK // 10):
        block = queries @ vectors[start : start + _BLOCK // 10].T
        scores = np.concatenate([scores, block], axis=1)
        found = np.concatenate([found, np.broadcast_to(keys[start : start + block.shape[1]], block.shape)], axis=1)
        best = np.argpartition(-scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k]
        best = best[rows, np.argsort(-scores[rows, best], axis=1, kind="stable")]
        scores, found = scores[rows, best], found[rows, best]
    return found


def _near(embeddings: Embeddings, carriers: int) -> Keys:
    """The questions whose nearest reference is one of those whose items have key-values."""
    first = nearest(embeddings.questions, embeddings.references, np.arange(len(embeddings.references)), 1)
    return np.flatnonzero(first[:, 0] < carriers)


def _copies(references: Matrix, keys: Keys) -> Matrix:
    """Vectors (len(keys), D): the references themselves first, then copies with noise."""
    copied = references[keys % len(references)]
    random = np.random.Generator(np.random.SFC64([_SEED, int(keys[0])]))
    noise = random.standard_normal(copied.shape, dtype=np.float32) * (NOISE / np.sqrt(copied.shape[1]))
    noise[keys < len(references)] = 0
    noisy = copied + noise
    return np.asarray(noisy / np.linalg.norm(noisy, axis=1, keepdims=True), dtype=np.float32)
