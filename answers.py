"""The events of a generation and the answer they add up to; shared by the model, the service and the client."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .store.types import Hit

FinishReason: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Recalled:
    """Chunk number `chunk` of the sequence (64 tokens each, the prompt's first) now reads these memories.

    `missing_shards` could not be asked for more, because they are damaged. `unread` were recalled too and are not read:
    they were deleted meanwhile, or their key-values could not be loaded.
    """

    chunk: int
    memories: tuple[Hit, ...]
    missing_shards: tuple[int, ...] = ()
    unread: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of generated text; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ReadMemory:
    """A memory that a chunk read, and what it did.

    Attributes:
        mass: the share of the softmax that its tokens got, as the mean over the chunk's queries, the memory layers and
            their heads. It says where the model looked, not what that changed.
        log_probability_loss: by how much the (natural) log-probability of the whole answer falls when this memory is
            left out of this chunk; below 0, it would have risen. None if it was not computed.
    """

    hit: Hit
    mass: float
    log_probability_loss: float | None


@dataclass(frozen=True, slots=True)
class ChunkExplanation:
    """What chunk number `chunk` recalled, what of it was read (the rest was deleted on the way), and what that did.

    `context_mass` is the mass of all that is no memory: with those of `read` it makes 1.
    """

    chunk: int
    recalled: tuple[Hit, ...]
    read: tuple[ReadMemory, ...]
    context_mass: float


@dataclass(frozen=True, slots=True)
class Explaining:
    """All text has come; `done` of the `total` memories that are left out in turn have been, for the explanation."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Explained:
    """What the memories of each chunk did, if it was asked for; comes just before the end, after all text."""

    chunks: tuple[ChunkExplanation, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: why generation ended, how many tokens it made, and where the seconds went."""

    reason: FinishReason
    tokens: int
    seconds: Mapping[str, float]


GenerationEvent: TypeAlias = Recalled | Text | Explaining | Explained | Finished


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its text, the memories that were read (each once, best score first) and the seconds spent.

    `missing_shards` could not be asked for memories, because they are damaged. `explanation` says what the memories of
    each chunk did, if it was asked for.
    """

    text: str
    memories: tuple[Hit, ...]
    finish_reason: FinishReason
    tokens: int
    seconds: Mapping[str, float]
    missing_shards: tuple[int, ...] = ()
    explanation: tuple[ChunkExplanation, ...] = ()


class AnswerStream:
    """An answer on its way: iterate for its text piece by piece, call `result` for the whole.

    Closing it (or leaving its `with` block) before the end stops the generation.
    """

    def __init__(self, events: Iterator[GenerationEvent]) -> None:
        self._events = events
        self._pieces: list[str] = []
        self._memories: dict[tuple[int, int], Hit] = {}
        self._missing_shards: set[int] = set()
        self._explanation: tuple[ChunkExplanation, ...] = ()
        self._finished: Finished | None = None

    def __iter__(self) -> Iterator[str]:
        for event in self.events():
            if isinstance(event, Text):
                yield event.text

    def events(self) -> Iterator[GenerationEvent]:
        """Yield every event, recalls included, in order."""
        for event in self._events:
            if isinstance(event, Text):
                self._pieces.append(event.text)
            elif isinstance(event, Recalled):
                self._memories.update({(hit.shard, hit.seq): hit for hit in event.memories})
                self._missing_shards.update(event.missing_shards)
            elif isinstance(event, Explained):
                self._explanation = event.chunks
            elif isinstance(event, Finished):
                self._finished = event
            yield event

    def result(self) -> Answer:
        """Wait for the end and return the whole answer.

        Raises:
            RuntimeError: the stream was closed before its end.
        """
        for _ in self.events():
            pass
        if self._finished is None:
            raise RuntimeError("the answer was closed before its end; ask again")
        return Answer(
            text="".join(self._pieces).strip(),
            memories=tuple(sorted(self._memories.values(), key=lambda hit: -hit.score)),
            finish_reason=self._finished.reason,
            tokens=self._finished.tokens,
            seconds=self._finished.seconds,
            missing_shards=tuple(sorted(self._missing_shards)),
            explanation=self._explanation,
        )

    def close(self) -> None:
        close = getattr(self._events, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> "AnswerStream":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
