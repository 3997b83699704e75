"""A sequence on its way: where it stands in the schedule, what it reads, and the text that it has made."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...answers import Finished, FinishReason, GenerationEvent, Recalled, Text
from ...store.types import Hit, Hits
from ..checkpoint import Checkpoint
from ..explanation import explaining
from ..sampling import Sampler
from ..schedule import CHUNK_TOKENS, begins_at, recalls_at
from ..source import MemorySource
from ..streaming import TextStream
from ..transcript import ReadChunk, Transcript
from .recalls import Wish
from .request import Request
from .step import Work


class Running:
    """A request that has a row of the context store. Used by the engine's thread alone.

    Attributes:
        beginning: whether the next tokens begin a chunk, whose memories have to be there first.
        slots: the slots of the pool that it has pinned and reads.
        ended: whether it was taken out.
        seconds: where its time went.
    """

    def __init__(self, request: Request, row: int, checkpoint: Checkpoint) -> None:
        self.request = request
        self.row = row
        self.beginning = True
        self.ended = False
        self.slots: list[int] = []
        self.seconds = {"queue": time.perf_counter() - request.submitted, "recall": 0.0, "fetch": 0.0, "model": 0.0}
        self.sampler = Sampler(request.options)
        self._checkpoint = checkpoint
        self._stream = TextStream(checkpoint.tokenizer, request.options.stop)
        self._tokens: list[int] = []
        self._answer: list[int] = []
        self._transcript: list[ReadChunk] = []
        self._past = 0
        self._prompt_chunks = 0
        self._chunk = 0

    @property
    def in_prompt(self) -> bool:
        """Whether a part of the prompt is still to be read."""
        return self._prompt_chunks < len(self.request.chunks)

    @property
    def chunk_tokens(self) -> int:
        """Tokens of the chunk of the prompt that comes next."""
        return len(self.request.chunks[self._prompt_chunks])

    def wish(self, source: MemorySource, queries: Sequence[str], hits: Sequence[Sequence[Hit]] = ()) -> Wish:
        """What its next chunk has to wait for."""
        options = self.request.options
        return Wish(self, source, queries, options.memories, hits=hits, coded=options.explain)

    def begin(self, hits: Sequence[Hit], memories: Sequence[tuple[Hit, bytes]]) -> None:
        """Begin a chunk, which reads those memories of the ones recalled; their bytes count for an explanation only."""
        self.beginning = False
        if self.request.source is None:
            return
        read = tuple(hit for hit, _ in memories)
        unread = tuple(hit for hit in hits if hit not in read)
        self.request.mailbox.put(Recalled(self._chunk, read, Hits.missing_of(hits), unread))
        self._transcript.append(ReadChunk(tuple(hits), tuple(memories)))
        self._chunk += 1

    def works(self) -> list[Work]:
        """What it adds to the next step: a chunk of the prompt, or the token generated last."""
        if not self.in_prompt:
            return [self._work([self._tokens[-1]])]
        works = []
        if self._past == 0 and self.request.prefix:
            works.append(Work(self.row, self.request.prefix, 0, 0, reads=False))
            self._past = len(self.request.prefix)
        works.append(self._work(self.request.chunks[self._prompt_chunks]))
        self._prompt_chunks += 1
        self.beginning = self.in_prompt
        return works

    def _work(self, tokens: Sequence[int]) -> Work:
        position = self._past - len(self.request.prefix) + self.request.start
        work = Work(self.row, tokens, self._past, position, reads=True)
        self._past += len(tokens)
        if self._transcript:
            self._transcript[-1].tokens += tokens
        return work

    def add(self, token: int) -> FinishReason | None:
        """Take in a generated token and send on its text; returns why generation ends, if it does."""
        self._answer.append(token)
        if token in self._checkpoint.ends:
            return "stop"
        self._tokens.append(token)
        if shown := self._stream.add(token):
            self.request.mailbox.put(Text(shown))
        if self._stream.stopped:
            return "stop"
        if len(self._tokens) == self.request.options.max_tokens or self._past == self.request.room:
            return "length"
        self.beginning = self.request.source is not None and begins_at(len(self._tokens))
        return None

    @property
    def query(self) -> str | None:
        """What to recall for the chunk to come, if now is the time to ask."""
        options = self.request.options
        if self.request.source is None or not recalls_at(len(self._tokens), options.recall_ahead, options.max_tokens):
            return None
        return self._checkpoint.text(self._tokens[-CHUNK_TOKENS:])

    def finish(self, reason: FinishReason) -> None:
        """Send the rest of the text and the last event."""
        if rest := self._stream.flush():
            self.request.mailbox.put(Text(rest))
        self.seconds["total"] = time.perf_counter() - self.request.submitted
        finished = Finished(reason, len(self._tokens), self.seconds)
        if self.request.options.explain:
            transcript = Transcript(self._transcript, self._answer)
            self.request.mailbox.put_later(_explained(self._checkpoint, transcript, finished))
        else:
            self.request.mailbox.put(finished)
        self.request.mailbox.end()


def _explained(checkpoint: Checkpoint, transcript: Transcript, finished: Finished) -> Iterator[GenerationEvent]:
    """The explanation, and then the end with its time counted; made by the caller's thread."""
    began = time.perf_counter()
    yield from explaining(checkpoint, transcript)
    seconds = time.perf_counter() - began
    total = finished.seconds["total"] + seconds
    yield replace(finished, seconds={**finished.seconds, "explain": seconds, "total": total})
