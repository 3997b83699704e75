"""Read: generate one sequence by the schedule (schedule.py), each chunk with memories of its own (paper: inference).

This is the plain way, one sequence at a time: what the engine (engine/) must equal token for token. A sequence is laid
out as: the prefix (`<s>Reference:`) from position 0, then the 128 positions in which all references lie, then the
ordinary `<s>` and the context. Without memories (`memories` = 0) a prompt stands at position 0 with no prefix, and the
model is the plain one.
"""

import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence

from torch import Tensor

from ..answers import Finished, FinishReason, GenerationEvent, Recalled, Text
from ..store.errors import InvalidArgument
from ..store.types import Hit, Hits
from .attention import LayerMemories
from .checkpoint import Checkpoint
from .context import Context
from .explanation import explaining
from .layout import REFERENCE_TOKENS
from .sampling import Sampler, choose
from .schedule import CHUNK_TOKENS, begins_at, prompt_chunks, prompt_queries, recalls_at
from .source import GenerationOptions, MemorySource
from .streaming import TextStream
from .transcript import ReadChunk, Transcript


class Reading:
    """One generation: its context, the memories that it reads now, and where its seconds go."""

    def __init__(self, checkpoint: Checkpoint, source: MemorySource | None, options: GenerationOptions) -> None:
        self._checkpoint = checkpoint
        self._source = source if options.memories > 0 else None
        self._options = options
        self._context = Context(checkpoint.model)
        self._memories: Mapping[int, LayerMemories] | None = None
        self._next: list[Hit] = []
        self._chunk = 0
        self._transcript: list[ReadChunk] = []
        self._answer: list[int] = []
        self._seconds: dict[str, float] = defaultdict(float)

    def run(self, prompt: Sequence[int], query: str | None = None) -> Iterator[GenerationEvent]:
        """Yield the events of a generation.

        Args:
            prompt: tokens of the context, without `<s>`.
            query: what to recall for a prompt of one chunk; None recalls for the chunk's own text.

        Raises:
            InvalidArgument: the prompt is empty, or too long for the model's window.
        """
        started = time.perf_counter()
        if not prompt:
            raise InvalidArgument("the prompt is empty; give some text to go on from")
        if self._source is not None:
            self._read(self._checkpoint.prefix)
            self._context.skip(REFERENCE_TOKENS)
        logits = yield from self._prompt([*self._checkpoint.bos, *prompt], query)
        reason, tokens = yield from self._generate(logits)
        if self._options.explain:
            yield from self._explain()
        self._seconds["total"] = time.perf_counter() - started
        yield Finished(reason, tokens, dict(self._seconds))

    def _prompt(self, tokens: Sequence[int], query: str | None) -> Generator[GenerationEvent, None, Tensor]:
        """Read the prompt chunk by chunk; returns the logits behind it."""
        assert tokens
        self._context.check_prompt(len(tokens))
        chunks = prompt_chunks(tokens)
        for chunk, wanted in zip(chunks, prompt_queries(chunks, query, self._checkpoint.text), strict=True):
            self._recall(wanted)
            yield from self._begin()
            logits = self._read(chunk)
        return logits

    def _generate(self, logits: Tensor) -> Generator[GenerationEvent, None, tuple[FinishReason, int]]:
        """Generate until an end; returns why it ended and the number of tokens."""
        sampler = Sampler(self._options)
        stream = TextStream(self._checkpoint.tokenizer, self._options.stop)
        tokens: list[int] = []
        reason: FinishReason = "length"
        while len(tokens) < self._options.max_tokens:
            (token,) = choose(logits[None], [sampler])
            self._answer.append(token)
            if token in self._checkpoint.ends:
                reason = "stop"
                break
            tokens.append(token)
            if shown := stream.add(token):
                yield Text(shown)
            if stream.stopped:
                reason = "stop"
                break
            if len(tokens) == self._options.max_tokens or not self._context.room:
                break
            if recalls_at(len(tokens), self._options.recall_ahead, self._options.max_tokens):
                self._recall(self._checkpoint.text(tokens[-CHUNK_TOKENS:]))
            if begins_at(len(tokens)):
                yield from self._begin()
            logits = self._read([token])
        if rest := stream.flush():
            yield Text(rest)
        return reason, len(tokens)

    def _recall(self, query: str) -> None:
        """Find the memories of the next chunk."""
        if self._source is not None:
            before = time.perf_counter()
            self._next = self._source.recall([query], self._options.memories)[0] if query.strip() else []
            self._seconds["recall"] += time.perf_counter() - before

    def _begin(self) -> Iterator[GenerationEvent]:
        """Drop the present memories and read those found for this chunk; one deleted on the way is left out."""
        if self._source is None:
            return
        before = time.perf_counter()
        hits, unread = self._next, []
        found: list[tuple[Hit, bytes]] = []
        for hit, live, value in zip(hits, self._source.live(hits), self._source.key_values(hits), strict=True):
            if live and value is not None:
                found.append((hit, value))
            else:
                unread.append(hit)
        self._memories = self._checkpoint.layers_of(found)
        if self._options.explain:
            self._transcript.append(ReadChunk(tuple(hits), tuple(found)))
        self._seconds["fetch"] += time.perf_counter() - before
        yield Recalled(self._chunk, tuple(hit for hit, _ in found), Hits.missing_of(hits), tuple(unread))
        self._chunk += 1

    def _read(self, tokens: Sequence[int]) -> Tensor:
        before = time.perf_counter()
        logits = self._context.extend(tokens, self._memories)
        if self._transcript:
            self._transcript[-1].tokens.extend(tokens)
        self._seconds["model"] += time.perf_counter() - before
        return logits

    def _explain(self) -> Iterator[GenerationEvent]:
        """What the memories of all chunks did; of none if none were to be read."""
        before = time.perf_counter()
        yield from explaining(self._checkpoint, Transcript(self._transcript, self._answer))
        self._seconds["explain"] = time.perf_counter() - before
