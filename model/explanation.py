"""What the memories of an answer did: how much attention each got, and what the answer loses without it.

The transcript is read again as it was, but the tokens of a chunk in one pass: they are known now. Then it is read once
more for each memory, which is left out of its chunk (elsewhere it stays, if it was read there too). Attention mass says
where the model looked; only leaving a memory out says what it did for the answer.

Dimensions: `B` batch, `H` query heads, `T` queries, `S` memories, `K` kept tokens of each, `M` = `S` * `K`.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..answers import ChunkExplanation, Explained, Explaining, ReadMemory
from .attention import LayerMemories, MassRecorder
from .checkpoint import Checkpoint
from .context import Context
from .layout import REFERENCE_TOKENS
from .transcript import ReadChunk, Transcript

EXPLAINED_MEMORIES_MAX = 64
"""Memories that are left out in turn, for each of which a part of the sequence is read again."""


def explain(
    checkpoint: Checkpoint, transcript: Transcript
) -> Generator[Explaining, None, tuple[ChunkExplanation, ...]]:
    """Explain every chunk of a transcript; yields before each memory that is left out, so that it can be stopped there.

    A memory's mass is the share of the softmax that its tokens got, as the mean over the chunk's queries, the memory
    layers and their heads. Its loss is log p(answer | all) - log p(answer | without it in this chunk), natural, over
    all tokens of the answer: positive where the memory helped. The others keep the weight that their similarity gave
    them beside it (`recall_weight`): without that, leaving out the best one would raise all that lie behind it.

    The memories of the last chunks are left out first, best first, at most `EXPLAINED_MEMORIES_MAX`; for the others,
    and where there is no answer, the loss is None.

    Returns:
        An explanation of each chunk, in their order.
    """
    left_out = _left_out(transcript)
    replay = _Replay(checkpoint, transcript, held_from=left_out[-1][0] if left_out else len(transcript.chunks))
    masses, as_read = [], []
    for chunk in transcript.chunks:
        mass = _Mass(len(chunk.memories))
        as_read.append(replay.read(mass_recorder=mass))
        masses.append(mass.mean())
    losses: dict[tuple[int, int], float] = {}
    for number, memory in left_out:
        yield Explaining(len(losses), len(left_out))
        losses[number, memory] = sum(as_read[number:]) - replay.read_without(number, memory)
    return tuple(
        _explanation(number, chunk, mass, [losses.get((number, memory)) for memory in range(len(chunk.memories))])
        for number, (chunk, mass) in enumerate(zip(transcript.chunks, masses, strict=True))
    )


def explaining(checkpoint: Checkpoint, transcript: Transcript) -> Iterator[Explaining | Explained]:
    """The events of an explanation; of one that read no memories it is empty."""
    chunks: tuple[ChunkExplanation, ...] = ()
    if transcript.chunks:
        chunks = yield from explain(checkpoint, transcript)
    yield Explained(chunks)


class _Replay:
    """A transcript read again chunk by chunk; decoded memories are held from chunk `held_from` on, to be read often."""

    def __init__(self, checkpoint: Checkpoint, transcript: Transcript, held_from: int) -> None:
        self._checkpoint = checkpoint
        self._chunks = transcript.chunks
        self._targets = _targets(transcript)
        self._held_from = held_from
        self._held: dict[int, Mapping[int, LayerMemories] | None] = {}
        self._next = 0
        self._context = Context(checkpoint.model)
        self._context.extend(checkpoint.prefix)
        self._context.skip(REFERENCE_TOKENS)

    def read(self, left_out: int | None = None, mass_recorder: MassRecorder | None = None) -> float:
        """Read the next chunk; returns the log-probability of the tokens of the answer that its own tokens foretell."""
        memories, tokens, targets = self._memories(), self._chunks[self._next].tokens, self._targets[self._next]
        if left_out is not None:
            assert memories is not None
            memories = _without(memories, left_out, self._checkpoint.layout.kept_tokens)
        self._next += 1
        logits = self._context.extend_keeping(max(1, len(targets)), tokens, memories, mass_recorder)
        if not targets:
            return 0.0
        chosen = torch.tensor(targets, device=logits.device)[:, None]
        # The sum is made in Python's doubles: losses are small differences of it.
        of_each: list[float] = torch.log_softmax(logits.float(), dim=-1).gather(1, chosen)[:, 0].tolist()
        return sum(of_each)

    def read_without(self, number: int, memory: int) -> float:
        """Read from chunk `number` to the end, that chunk without one memory; what is before it stays as it was read.

        Returns:
            The log-probability of the tokens of the answer that these chunks foretell.
        """
        self._context.forget(sum(len(chunk.tokens) for chunk in self._chunks[number : self._next]))
        self._next = number
        return self.read(memory) + sum(self.read() for _ in self._chunks[number + 1 :])

    def _memories(self) -> Mapping[int, LayerMemories] | None:
        """What each layer reads in the next chunk."""
        if self._next in self._held:
            return self._held[self._next]
        memories = self._checkpoint.layers_of(self._chunks[self._next].memories)
        if self._next >= self._held_from:
            self._held[self._next] = memories
        return memories


class _Mass:
    """Sums the mass of each memory of a chunk over the layers that read them."""

    def __init__(self, memories: int) -> None:
        self._memories = memories
        self._layers: list[Tensor] = []

    def record(self, layer: int, weights: Tensor) -> None:
        """Take the shares (B, H, T, M) of one layer."""
        of_each = weights.float().unflatten(-1, (self._memories, -1)).sum(dim=-1)
        self._layers.append(of_each.mean(dim=(0, 1, 2)))

    def mean(self) -> list[float]:
        """The mass of each memory."""
        mean: list[float] = torch.stack(self._layers).mean(dim=0).tolist() if self._layers else []
        return mean


def _targets(transcript: Transcript) -> list[list[int]]:
    """For each chunk the tokens of the answer that come after its tokens: the last of them, if not all, have one."""
    start = len(transcript.answer) - sum(len(chunk.tokens) for chunk in transcript.chunks)
    found = []
    for chunk in transcript.chunks:
        end = start + len(chunk.tokens)
        found.append(list(transcript.answer[max(0, start) : max(0, end)]))
        start = end
    return found


def _left_out(transcript: Transcript) -> list[tuple[int, int]]:
    """Which (chunk, memory) are left out in turn: the last chunk's first, since what lies before must stand as read."""
    if not transcript.answer:
        return []
    numbers = range(len(transcript.chunks))
    found = [(n, memory) for n in reversed(numbers) for memory in range(len(transcript.chunks[n].memories))]
    return found[:EXPLAINED_MEMORIES_MAX]


def _without(memories: Mapping[int, LayerMemories], left_out: int, kept: int) -> dict[int, LayerMemories]:
    """What each layer reads, but with the `kept` tokens of one memory masked; all others stay as they are."""
    masked = {}
    for layer, memory in memories.items():
        assert memory.mask is not None
        mask = memory.mask.clone()
        mask[..., left_out * kept : (left_out + 1) * kept] = False if mask.dtype == torch.bool else float("-inf")
        masked[layer] = replace(memory, mask=mask)
    return masked


def _explanation(
    number: int, chunk: ReadChunk, masses: Sequence[float], losses: Sequence[float | None]
) -> ChunkExplanation:
    hits = [hit for hit, _ in chunk.memories]
    read = tuple(ReadMemory(hit, mass, loss) for hit, mass, loss in zip(hits, masses, losses, strict=True))
    return ChunkExplanation(number, chunk.recalled, read, 1.0 - sum(masses))
