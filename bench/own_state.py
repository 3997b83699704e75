"""How often recall finds the right reference by the model's own state, in place of an embedder, for one model.

    python bench/own_state.py [--model FOLDER] [--queries 250] [--references 1000] [--data FOLDER] [--all]

The paper's Remark 2 recalls with the model's own attention queries. Here each way gives every reference a score for
every query; the search is exact, and all ways see the same texts. The model reads references as the writer does, and
queries as the engine does before it has recalled. Of a way that has a layer to choose, the layer that finds most over
all work is printed, chosen by the very queries that are counted, which favours it; `--all` prints every layer too.
Centring and whitening are fitted on the references alone. Nothing is trained.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from memory3.bench.machine import machine_line
from memory3.bench.own_state_inputs import (
    Matrix,
    States,
    Work,
    all_work,
    batched,
    forward,
    query_rows,
    reference_rows,
    states,
)
from memory3.bench.real_data import data_folder
from memory3.model.embedder import Embedder
from memory3.model.language_model import LanguageModel

RIDGE = 0.01
"""Added to each variance before whitening, times their mean, so that what hardly varies is not blown up."""
RECALLED = (1, 5)
TIMED = 50

Numbers = npt.NDArray[np.int64]
Scored = tuple[str, str, Matrix]
"""A way, the layer that it looks at (empty if it has none), and its scores (queries, references)."""


def normal(vectors: Matrix) -> Matrix:
    length: Matrix = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return vectors / length


def cosine(queries: Matrix, references: Matrix) -> Matrix:
    return normal(queries) @ normal(references).T


def whitening(references: Matrix) -> Matrix:
    """A matrix (D, D) under which centred references vary alike in all directions, but for the ridge."""
    variances, directions = np.linalg.eigh(np.cov(references.T))
    scales = 1 / np.sqrt(np.maximum(variances, 0) + RIDGE * variances.mean())
    white: Matrix = (directions * scales).astype(np.float32)
    return white


def variants(way: str, layer: str, queries: Matrix, references: Matrix) -> Iterator[Scored]:
    """Cosine as the vectors are, after centring, and after whitening."""
    yield way, layer, cosine(queries, references)
    mean = references.mean(axis=0)
    queries, references = queries - mean, references - mean
    yield f"{way}, centred", layer, cosine(queries, references)
    white = whitening(references)
    yield f"{way}, whitened", layer, cosine(queries @ white, references @ white)


@dataclass(frozen=True, slots=True)
class Tokens:
    """References token by token: for each head the vectors (D, T) to look at, and where each reference begins."""

    heads: list[tuple[Matrix, Numbers]]

    @classmethod
    def of(cls, vectors: Matrix, starts: Numbers, kept: npt.NDArray[np.bool_] | None = None) -> "Tokens":
        """Vectors (T, H, D) of all tokens, or for each head of those kept (T, H), at least one of each reference."""
        heads = []
        for head in range(vectors.shape[1]):
            chosen = np.arange(len(vectors)) if kept is None else np.flatnonzero(kept[:, head])
            heads.append((np.ascontiguousarray(vectors[chosen, head].T), np.searchsorted(chosen, starts)))
        return cls(heads)

    def scores(self, query: Matrix) -> Matrix:
        """For each token and head of a query (T, H, D) the best product that a reference has with it, summed: (N,)."""
        summed: Matrix = np.zeros(len(self.heads[0][1]), np.float32)
        for head, (vectors, starts) in enumerate(self.heads):
            summed += np.maximum.reduceat(np.ascontiguousarray(query[:, head]) @ vectors, starts, axis=1).sum(axis=0)
        return summed

    def all_scores(self, queries: Matrix, starts: Numbers) -> Matrix:
        return np.stack([self.scores(query) for query in np.split(queries, starts[1:])])


def rarity(has: npt.NDArray[Any]) -> Matrix:
    """How much each token of the vocabulary tells, by whether references have it (N, vocabulary)."""
    rare: Matrix = np.log(len(has) / np.maximum(has.sum(axis=0), 1)).astype(np.float32)
    return rare


def has_token(side: States, size: int) -> Matrix:
    """Which tokens of a vocabulary each text has, (N, `size`), 1 or 0."""
    has = np.zeros((len(side.starts), size), np.float32)
    has[np.searchsorted(side.starts, np.arange(len(side.ids)), side="right") - 1, side.ids] = 1
    return has


def by_words(queries: States, references: States, size: int) -> Matrix:
    """No model at all: the tokens in common, each by its rarity."""
    ours, theirs = has_token(queries, size), has_token(references, size)
    rare = rarity(theirs)
    return cosine(ours * rare, theirs * rare)


def by_hidden_states(queries: States, references: States, size: int, last: int) -> Iterator[Scored]:
    """Mean and last hidden states; token by token those that go into layers up to `last`, where the writer stops."""
    rare = rarity(has_token(references, size))
    for layer in references.last:
        name, shown = f"hidden {layer}", str(layer)
        yield from variants("mean hidden state", shown, queries.mean(name), references.mean(name))
        weighed = (side.mean(name, rare[side.ids]) for side in (queries, references))
        yield from variants("mean hidden state by tokens' rarity", shown, *weighed)
        if layer:
            yield from variants("last hidden state", shown, queries.last[layer], references.last[layer])
        if layer > last:
            continue
        mean = references.tokens[name].mean(axis=0)
        ours, theirs = (normal(side.tokens[name] - mean)[:, None] for side in (queries, references))
        scores = Tokens.of(theirs, references.starts).all_scores(ours, queries.starts)
        yield "hidden states token by token, centred", shown, scores


def by_attention(queries: States, references: States, layers: tuple[int, ...]) -> Iterator[Scored]:
    """Queries against keys as attention has them, without positions: means, and token by token."""
    every: dict[str, Matrix] = {}
    for layer in layers:
        kept, keys = references.tokens[f"kept {layer}"], references.tokens[f"key {layer}"]
        query, key = queries.mean(f"query {layer}"), references.mean(f"key {layer}")
        usual = references.mean(f"query {layer}").mean(axis=0)
        tokens = queries.tokens[f"query {layer}"]
        centred = tokens - usual.reshape(tokens.shape[1:])
        of_all, of_kept = Tokens.of(keys, references.starts), Tokens.of(keys, references.starts, kept)
        for way, scores in (
            ("mean query, mean key", query @ key.T),
            ("mean query, mean key, centred", (query - usual) @ key.T),
            ("mean query, mean key, centred, cosine", cosine(query - usual, key - key.mean(axis=0))),
            ("mean query, mean kept key, centred", (query - usual) @ references.mean(f"key {layer}", kept).T),
            ("query and key token by token", of_all.all_scores(tokens, queries.starts)),
            ("query and key token by token, centred", of_all.all_scores(centred, queries.starts)),
            ("query and kept key token by token, centred", of_kept.all_scores(centred, queries.starts)),
        ):
            yield way, str(layer), scores
            every[way] = scores + every[way] if way in every else scores
        yield from variants("mean key, mean key", str(layer), queries.mean(f"key {layer}"), key)
    for way, scores in every.items():
        yield way, "all", scores


def scored(model: LanguageModel, embedder: Embedder, work: Work) -> Iterator[Scored]:
    """Every way's scores."""
    yield "**embedder**", "", cosine(embedder.embed(work.queries), embedder.embed(work.references))
    checkpoint, size = model.checkpoint, len(model.checkpoint.tokenizer)
    queries = states(checkpoint, (query_rows(model, texts, work.asked) for texts in batched(work.queries)))
    references = states(checkpoint, (reference_rows(model, texts) for texts in batched(work.references)))
    yield "tokens in common by rarity", "", by_words(queries, references, size)
    yield from by_hidden_states(queries, references, size, max(checkpoint.layout.layers))
    yield from by_attention(queries, references, checkpoint.layout.layers)


def found(scores: Matrix, work: Work) -> list[float]:
    """Shares of the queries that have a reference of the right document among the first 1 and 5."""
    documents = np.array(work.documents)[np.argsort(-scores, axis=1, kind="stable")[:, : max(RECALLED)]]
    hits = documents == np.array(work.right)[:, None]
    return [float(hits[:, :first].any(axis=1).mean()) for first in RECALLED]


def table(results: dict[tuple[str, str], list[list[float]]], every_layer: bool) -> Iterator[str]:
    """Rows of ways, each with its best layer or with every layer."""
    best: dict[str, str] = {}
    for way, layer in results:
        if way not in best or np.sum(results[way, layer]) > np.sum(results[way, best[way]]):
            best[way] = layer
    for (way, layer), shares in results.items():
        if every_layer or layer == best[way]:
            yield f"| {way} | {layer} | " + " | ".join(f"{one:.3f} / {five:.3f}" for one, five in shares) + " |"


def milliseconds(call: Callable[[int], object]) -> float:
    """Median of some calls, each given another number."""
    times = []
    for number in range(TIMED):
        before = time.perf_counter()
        call(number)
        times.append((time.perf_counter() - before) * 1000)
    return statistics.median(times)


@torch.inference_mode()
def print_times(model: LanguageModel, embedder: Embedder, work: Work) -> None:
    """What a query costs, one at a time: before the search, and the search."""
    checkpoint, layer = model.checkpoint, model.checkpoint.layout.layers[0]
    references = states(checkpoint, (reference_rows(model, texts) for texts in batched(work.references)))
    texts = [work.queries[number % len(work.queries)] for number in range(TIMED)]
    queries = states(checkpoint, (query_rows(model, part, work.asked) for part in batched(texts)))
    query = np.split(queries.tokens[f"query {layer}"], queries.starts[1:])
    hidden = np.split(queries.tokens[f"hidden {layer}"][:, None], queries.starts[1:])
    key, kept = references.tokens[f"key {layer}"], references.tokens[f"kept {layer}"]
    of_hidden = Tokens.of(references.tokens[f"hidden {layer}"][:, None], references.starts)
    of_keys, of_kept = Tokens.of(key, references.starts), Tokens.of(key, references.starts, kept)
    embedded, mean = embedder.embed(work.references), references.mean(f"hidden {layer}")
    wide = np.tile(references.mean(f"key {layer}"), len(checkpoint.layout.layers))
    embedding = milliseconds(lambda number: embedder.embed([texts[number]]))
    a_pass = milliseconds(lambda number: forward(checkpoint, query_rows(model, [texts[number]], work.asked)))
    searches: list[tuple[str, float, Callable[[int], object]]] = [
        ("embedder", embedding, lambda number: np.argsort(embedded @ embedded[number])),
        ("mean hidden state", a_pass, lambda number: np.argsort(mean @ mean[number])),
        ("mean query, mean key, all layers", a_pass, lambda number: np.argsort(wide @ wide[number])),
        ("hidden states token by token", a_pass, lambda number: np.argsort(of_hidden.scores(hidden[number]))),
        ("query and key token by token, one layer", a_pass, lambda number: np.argsort(of_keys.scores(query[number]))),
        (
            "query and kept key token by token, one layer",
            a_pass,
            lambda number: np.argsort(of_kept.scores(query[number])),
        ),
    ]
    tokens = statistics.mean(len(checkpoint.encode(text)) for text in texts)
    for way, before, search in searches:
        shown = f"{work.name}, {tokens:.0f} tokens | {len(work.references):,}"
        print(f"| {way} | {shown} | {before:.2f} | {milliseconds(search):.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="folder or name; the packaged model without it")
    parser.add_argument("--queries", type=int, default=250, help="of each work set")
    parser.add_argument("--references", type=int, default=1000, help="most references of a work set")
    parser.add_argument("--data", type=Path, default=None, help="folder of squad and factbook")
    parser.add_argument("--all", action="store_true", help="print every layer too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = data_folder(options.data)
    model, embedder = LanguageModel.load(options.model), Embedder.load()
    print(machine_line())
    work_sets = all_work(model, folder, options.queries, options.references)
    results: dict[tuple[str, str], list[list[float]]] = {}
    for work in work_sets:
        print(f"{work.name}: {len(work.queries):,} queries, {len(work.references):,} references", flush=True)
        for way, layer, scores in scored(model, embedder, work):
            results.setdefault((way, layer), []).append(found(scores, work))
    for every_layer in (False, True) if options.all else (False,):
        print("\n| way | layer | " + " | ".join(work.name for work in work_sets) + " |")
        print("|---|---|" + "---|" * len(work_sets))
        print("\n".join(table(results, every_layer)))
    print("\n| way | a query | references | ms before the search | ms of the search |\n|---|---|---|---|---|")
    for work in work_sets[1:3]:
        print_times(model, embedder, work)


if __name__ == "__main__":
    main()
