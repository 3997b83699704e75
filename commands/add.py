"""`memory3 add`: files, folders and standard input into the store."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ..store.errors import InvalidArgument, ResourceExhausted
from ..store.seqs import shard_of_seq
from ..store.types import Document, UpsertResult
from .connection import Memory, connected
from .options import CollectionName, Data, EmbedderName, Json, ModelName, ServerAddress, Target
from .output import notes, plain, print_json, results
from .sources import Bad, File, Found, Source, document_of_stream, documents_of_files, documents_of_lines, files_of

BATCH_DOCUMENTS = 32
BATCH_BYTES = 128 << 10
SMALL_BYTES = 512 << 10
"""Text that goes into a message of any server (`message_bytes_max` is 1 MiB or more): refused, it lacks space."""
STANDARD_INPUT = Path("-")


def add(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Files, folders (searched for .md .markdown .txt .html .htm .jsonl .ndjson), or - for standard input.",
            show_default=False,
        ),
    ],
    key: Annotated[
        str | None,
        typer.Option("--key", help="With -: take standard input as one text under this key, not as JSON lines."),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Make the collection first if there is none.")] = False,
    data: Data = None,
    server: ServerAddress = None,
    collection: CollectionName = None,
    model: ModelName = None,
    embedder: EmbedderName = None,
    json: Json = False,
) -> None:
    """Add documents, or replace those whose key is there already.

    A document's key is its path within the folder given, or its name when the file itself was given. JSON lines bring
    their own: {"key": "…", "text": "…", "metadata": {…}}. What is stored already is skipped, so adding again is cheap.
    A file that cannot be read is named and the others go on; the exit code is 1 then. When the store has no space left,
    it stops and says where; what came before is stored.
    """
    target = Target.of(data, server, collection, model=model, embedder=embedder)
    if STANDARD_INPUT in paths and len(paths) > 1:
        raise typer.BadParameter("standard input cannot be mixed with files; add them one after the other")
    if key is not None and STANDARD_INPUT not in paths:
        raise typer.BadParameter("--key goes with standard input; files have their own keys")
    started = time.monotonic()
    files = [] if STANDARD_INPUT in paths else files_of(paths)
    sources = documents_of_files(files) if STANDARD_INPUT not in paths else _standard_input(key)
    total = sum(file.size for file in files if isinstance(file, File)) or None
    with connected(target) as memory, _progress(json) as progress:
        if create:
            memory.create_collection(target.collection)
        adding = _Adding(memory, target.collection, progress, total)
        adding.run(sources)
    adding.report(time.monotonic() - started, json)
    if adding.bad or adding.stopped:
        raise typer.Exit(1)


class _Adding:
    """One run of `add`: what was stored, what was not, and why."""

    def __init__(self, memory: Memory, collection: str, progress: Progress, total: int | None) -> None:
        self.stored: list[UpsertResult] = []
        self.bad: list[Bad] = []
        self.stopped: Bad | None = None
        """The first that the store had no space for; neither it nor what follows was added."""
        self._memory = memory
        self._collection = collection
        self._progress = progress
        self._task = progress.add_task("adding", total=total, documents=0)
        self._began_at = {shard_of_seq(seq): seq for seq in memory.stats(collection=collection).positions}
        """The seqs of the last changes before ours, by shard."""

    def run(self, sources: Iterator[Source]) -> None:
        """Store documents batch by batch, to the end or until the store has no space."""
        batch: list[Found] = []
        size = 0
        for source in sources:
            if isinstance(source, Bad):
                self._refuse(source)
                continue
            repeats = any(found.document.key == source.document.key for found in batch)
            if batch and (repeats or len(batch) == BATCH_DOCUMENTS or size + source.size > BATCH_BYTES):
                if not self._store(batch):
                    return
                batch, size = [], 0
            batch.append(source)
            size += source.size
        if batch:
            self._store(batch)

    def report(self, seconds: float, json: bool) -> None:
        changed = [result for result in self.stored if result.changed]
        if json:
            fields: dict[str, Any] = {
                "added": len(changed),
                "unchanged": len(self.stored) - len(changed),
                "memories": sum(result.memories for result in changed),
                "failed": [asdict(bad) for bad in self.bad],
                "stopped": asdict(self.stopped) if self.stopped else None,
                "seconds": round(seconds, 3),
            }
            print_json(fields)
            return
        memories = sum(result.memories for result in changed)
        unchanged = len(self.stored) - len(changed)
        results.print(
            f"{len(changed)} documents added ({memories} memories), {unchanged} unchanged, {len(self.bad)} failed, "
            f"in {seconds:.1f} s"
        )

    def _store(self, batch: list[Found]) -> bool:
        """Store a batch; say whether the next may be tried."""
        told = [0]
        documents = [found.document for found in batch]
        try:
            stored = self._memory.upsert(
                documents, collection=self._collection, progress=lambda done, of: told.append(done)
            )
        except (InvalidArgument, ResourceExhausted) as error:
            if isinstance(error, ResourceExhausted) and _is_small(documents):
                self._count_stored(documents[: told[-1]])
                self._stop(Bad(batch[told[-1]].name, str(error)))
                return False
            if len(batch) > 1:
                # One of them is bad: find out which, and store the others.
                return all(self._store([found]) for found in batch)
            self._refuse(Bad(batch[0].name, str(error)))
            stored = []
        self.stored += stored
        size = sum(found.size for found in batch)
        self._progress.update(self._task, advance=size, documents=len(self.stored))
        return True

    def _count_stored(self, documents: list[Document]) -> None:
        """Count what a call had stored before it was refused, of which it could give no results."""
        found = self._memory.get([document.key for document in documents], collection=self._collection)
        self.stored += [
            UpsertResult(one.key, one.version, self._is_new(one.version), len(one.memories)) for one in found if one
        ]

    def _is_new(self, version: int) -> bool:
        return version > self._began_at[shard_of_seq(version)]

    def _stop(self, at: Bad) -> None:
        self.stopped = at
        notes.print(plain(f"stopped at {at.name}: {at.reason}"))
        notes.print("neither it nor what follows was added; what came before is stored, and skipped when you add again")

    def _refuse(self, bad: Bad) -> None:
        self.bad.append(bad)
        notes.print(plain(f"not added: {bad.name}: {bad.reason}"))


def _is_small(documents: list[Document]) -> bool:
    return sum(len(document.text.encode()) for document in documents) <= SMALL_BYTES


def _standard_input(key: str | None) -> Iterator[Source]:
    stream = sys.stdin.buffer
    return documents_of_lines(stream, "standard input") if key is None else document_of_stream(stream, key)


def _progress(json: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    documents = TextColumn("{task.fields[documents]} documents")
    return Progress(*columns, documents, TimeRemainingColumn(), console=notes, disable=json or not notes.is_terminal)
