"""Read: generate by the paper's schedule, each chunk of 64 tokens with memories of its own (paper: inference).

A sequence is laid out as: the prefix (`<s>Reference:`) from position 0, then the 128 positions in which all
references lie, then the ordinary `<s>` and the context. Each chunk of the prompt recalls its own memories; the first
generated chunk keeps those of the last prompt chunk; then every 64 generated tokens are the next query. Without
memories (`memories` = 0) a prompt stands at position 0 with no prefix, and the model is the plain one.
"""

import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence

from torch import Tensor

from ..answers import ChunkExplanation, Explained, Finished, FinishReason, GenerationEvent, Recalled, Text
from ..store.errors import InvalidArgument
from ..store.types import Hits
from .attention import LayerMemories
from .checkpoint import Checkpoint
from .context import Context
from .explanation import explain
from .layout import REFERENCE_TOKENS
from .sampling import Sampler
from .source import GenerationOptions, MemorySource
from .streaming import TextStream
from .transcript import ReadChunk, Transcript

CHUNK_TOKENS = 64


class Reading:
    """One generation: its context, the memories that it reads now, and where its seconds go."""

    def __init__(self, checkpoint: Checkpoint, source: MemorySource | None, options: GenerationOptions) -> None:
        self._checkpoint = checkpoint
        self._source = source if options.memories > 0 else None
        self._options = options
        self._context = Context(checkpoint.model)
        self._memories: Mapping[int, LayerMemories] | None = None
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
        for start in range(0, len(tokens), CHUNK_TOKENS):
            chunk = tokens[start : start + CHUNK_TOKENS]
            whole = query if query is not None and len(tokens) <= CHUNK_TOKENS else self._checkpoint.text(chunk)
            yield from self._recall(whole)
            logits = self._read(chunk)
        return logits

    def _generate(self, logits: Tensor) -> Generator[GenerationEvent, None, tuple[FinishReason, int]]:
        """Generate until an end; returns why it ended and the number of tokens."""
        sampler = Sampler(self._options)
        stream = TextStream(self._checkpoint.tokenizer, self._options.stop)
        tokens: list[int] = []
        reason: FinishReason = "length"
        while len(tokens) < self._options.max_tokens:
            token = sampler.choose(logits)
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
            if len(tokens) % CHUNK_TOKENS == 0:
                yield from self._recall(self._checkpoint.text(tokens[-CHUNK_TOKENS:]))
            logits = self._read([token])
        if rest := stream.flush():
            yield Text(rest)
        return reason, len(tokens)

    def _recall(self, query: str) -> Iterator[GenerationEvent]:
        """Drop the present memories and read those nearest to `query`; one deleted on the way is left out."""
        if self._source is None:
            return
        before = time.perf_counter()
        hits = self._source.recall([query], self._options.memories)[0] if query.strip() else []
        between = time.perf_counter()
        values = self._source.key_values(hits)
        found = tuple((hit, value) for hit, value in zip(hits, values, strict=True) if value is not None)
        self._memories = self._checkpoint.layers_of(found)
        if self._options.explain:
            self._transcript.append(ReadChunk(tuple(hits), found))
        self._seconds["recall"] += between - before
        self._seconds["fetch"] += time.perf_counter() - between
        yield Recalled(self._chunk, tuple(hit for hit, _ in found), Hits.missing_of(hits))
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
        chunks: tuple[ChunkExplanation, ...] = ()
        if self._transcript:
            chunks = yield from explain(self._checkpoint, Transcript(self._transcript, self._answer))
        self._seconds["explain"] = time.perf_counter() - before
        yield Explained(chunks)
