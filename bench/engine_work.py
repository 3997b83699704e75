"""What bench/engine.py measures on: a store of generated texts, a source that tells where recall's time goes, passes.

The texts are of generated worlds (model/training/worlds.py), so that nothing has to be fetched. They are stored and
written before anything is measured, and recall goes through the real embedder and the real store.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from memory3.answers import Finished, GenerationEvent
from memory3.bench.engine_timing import time_engine, timed
from memory3.cluster.embedded import Embedded
from memory3.cluster.memory_source import CollectionSource
from memory3.model.engine.engine import Engine
from memory3.model.engine.limits import EngineLimits
from memory3.model.evaluation.exam import unseen_worlds
from memory3.model.language_model import LanguageModel
from memory3.model.source import MemorySource
from memory3.model.training.worlds import World
from memory3.store.types import Document, Hit

SEED = 11
_CHUNKS_PINNED = 2
"""Of how many chunks a sequence pins the memories: the present one's and the next one's."""
_WAITING = 10_000
"""More than any part asks for: nothing is refused."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured; the tests measure little. `waves` are those of questions, of `callers` each.

    To references of fewer than `reference_tokens` words of other texts are added.
    """

    rounds: int = 5
    documents: int = 2_000
    reference_tokens: int = 0
    prompt_tokens: int = 128
    tokens: int = 128
    answer_tokens: int = 64
    memories: int = 5
    concurrency: tuple[int, ...] = (1, 8, 32)
    requests_min: int = 8
    callers: int = 16
    waves: int = 4
    checked: int = 4
    memory_waves: int = 1

    def requests(self, running: int) -> int:
        """How many the part `memory` submits at once where so many run at a time."""
        return max(self.memory_waves * running, self.requests_min)


class TimedSource(MemorySource):
    """A collection's memories, and the seconds that each part of finding and reading them took.

    Attributes:
        seconds: by part: embed, search, read, note (of reads), live; and of the engine what engine_timing.py adds.
        vectors: of queries embedded while `keeps`; with `replays` those are taken instead of asking the embedder.
        missed: queries of a replay that were not among them.
    """

    def __init__(self, source: CollectionSource, seqs: Sequence[int]) -> None:
        self._source = source
        self._memories = [hit for hit in source.collection.memories(seqs) if hit is not None]
        self._unread: Iterator[Hit] = iter(())
        self._read: set[int] | None = None
        self.seconds: dict[str, float] = defaultdict(float)
        self.vectors: dict[str, npt.NDArray[np.float32]] = {}
        self.keeps = False
        self.replays = False
        self.missed = 0

    @property
    def memories(self) -> int:
        """How many there are."""
        return len(self._memories)

    @property
    def scope(self) -> Hashable:
        return self._source.scope

    def recall(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        with timed(self.seconds, "embed"):
            vectors = self._vectors(queries)
        with timed(self.seconds, "search"):
            fingerprint = self._source.models.language_model.fingerprint
            found = self._source.collection.recall(vectors, k, fingerprint)
        return found if self._read is None else [self._others(hits, self._read) for hits in found]

    def read_others(self, others: bool) -> None:
        """From now on no memory is found twice: another takes its place, while there are any; or else as usual."""
        read: set[int] = set()
        self._read = read if others else None
        self._unread = (hit for hit in self._memories if hit.seq not in read)

    def _others(self, hits: Sequence[Hit], read: set[int]) -> list[Hit]:
        found = []
        for hit in hits:
            if hit.seq in read and (other := next(self._unread, None)) is not None:
                hit = replace(other, score=hit.score)
            read.add(hit.seq)
            found.append(hit)
        return found

    def key_values(self, hits: Sequence[Hit]) -> list[bytes | None]:
        with timed(self.seconds, "read"):
            return self._source.key_values(hits)

    def live(self, hits: Sequence[Hit]) -> list[bool]:
        with timed(self.seconds, "live"):
            return self._source.live(hits)

    def note_reads(self, hits: Sequence[Hit]) -> None:
        with timed(self.seconds, "note"):
            self._source.note_reads(hits)

    def _vectors(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        unknown = [query for query in queries if not self.replays or query not in self.vectors]
        made = dict(zip(unknown, self._source.models.embedder.embed(unknown), strict=True))
        if self.keeps:
            self.vectors.update(made)
        self.missed += len(unknown) if self.replays else 0
        return np.stack([made[query] if query in made else self.vectors[query] for query in queries])


@dataclass(frozen=True, slots=True)
class Work:
    """The model, which no token ends, what it reads from, prompts for it (without `<s>`) and questions."""

    model: LanguageModel
    source: TimedSource
    prompts: Sequence[Sequence[int]]
    questions: Sequence[str]
    reference_tokens: float


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass over all requests took: by the clock, and as means of a request's own account."""

    wall: float
    tokens: int
    seconds: Mapping[str, float]

    @property
    def rate(self) -> float:
        return self.tokens / self.wall


@contextmanager
def open_work(folder: Path, settings: Settings, model: str | None, device: str) -> Iterator[Work]:
    """Make the store, written, and all that is asked; the folder must be empty or not there."""
    exam = unseen_worlds(2 * settings.documents, SEED)
    documents = dict(list(exam.documents.items())[: settings.documents])
    with Embedded(folder, model=model, device=device) as memory:
        filler = World(SEED + 2, "test")
        checkpoint = memory.models.language_model.checkpoint
        documents = {
            key: filled(text, settings.reference_tokens, checkpoint.encode, filler) for key, text in documents.items()
        }
        memory.upsert([Document(key, text) for key, text in documents.items()])
        memory.write()
        language_model = endless(memory.models.language_model)
        seqs = [seq for stored in memory.get(list(documents)) if stored is not None for seq in stored.memories]
        source = TimedSource(CollectionSource(memory.opened("default"), memory.models), seqs)
        count = max(settings.callers, *map(settings.requests, settings.concurrency))
        lengths = [len(language_model.checkpoint.encode(text)) for text in documents.values()]
        questions = [question.text for question in exam.questions if question.key in documents]
        yield Work(
            language_model,
            source,
            list(_prompts(language_model, count, settings.prompt_tokens)),
            questions[: settings.callers * settings.waves],
            sum(lengths) / len(lengths),
        )


def endless(model: LanguageModel) -> LanguageModel:
    """The same model, whose answers no token ends, so that all are of one length."""
    made = replace(model.checkpoint)
    made.__dict__["ends"] = frozenset()
    return LanguageModel(made)


def filled(text: str, tokens: int, encode: Callable[[str], Sequence[int]], world: World) -> str:
    """The text with words of other passages behind it, as many as `tokens` have room for; as it is if it has them."""
    words = [text]
    while len(encode(" ".join(words))) < tokens:
        words += world.passage().text.split()
    while len(words) > 1 and len(encode(" ".join(words))) > tokens:
        words.pop()
    return " ".join(words)


def _prompts(model: LanguageModel, count: int, tokens: int) -> Iterator[list[int]]:
    """Prompts of so many tokens with their `<s>`, each about entities of its own, which the store does not know."""
    world = World(SEED + 1, "test")
    for _ in range(count):
        prompt: list[int] = []
        while len(prompt) < tokens:
            prompt += model.checkpoint.encode(world.passage().text + "\n")
        yield prompt[: tokens - len(model.checkpoint.bos)]


@contextmanager
def engine_of(work: Work, running: int, memories: int, *, cold: bool) -> Iterator[Engine]:
    """An engine for so many sequences: a cold one holds what these read and nothing besides, nor codes in RAM; another
    has room for all memories.
    """
    limits = EngineLimits(running_max=running, waiting_max=_WAITING)
    limits = replace(limits, slots=max(limits.slots, work.source.memories))
    if cold:
        limits = replace(limits, slots=_CHUNKS_PINNED * memories * running, ram_bytes=0)
    engine = Engine(work.model, limits)
    time_engine(engine, work.source.seconds)
    try:
        yield engine
    finally:
        engine.close()


def run_pass(start: Callable[[], Sequence[Iterator[GenerationEvent]]]) -> Pass:
    """Start requests and take all that comes of them."""
    began = time.perf_counter()
    finished = [last_of(generation) for generation in start()]
    wall = time.perf_counter() - began
    seconds: Counter[str] = Counter()
    for one in finished:
        seconds.update(one.seconds)
    means = {name: total / len(finished) for name, total in seconds.items()}
    return Pass(wall, sum(one.tokens for one in finished), means)


def last_of(events: Iterator[GenerationEvent]) -> Finished:
    finished = [event for event in events if isinstance(event, Finished)]
    return finished[-1]


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def turns(names: Sequence[str], number: int) -> list[str]:
    """The names in the order of one round: each round begins with another."""
    start = number % len(names)
    return [*names[start:], *names[:start]]
