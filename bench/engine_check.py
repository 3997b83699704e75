"""What bench/engine.py asks before it times: does the engine answer as the model does one request at a time?

In float32 the greedy answers must be the same tokens. In bfloat16 and float16, sums in another order round to other
logits; where two tokens are nearly as likely, either may be taken, and from there on the answers are others. So there
an answer that differs is read again one request at a time, with the engine's tokens in place of the likeliest and the
memories that these recall. Each must be the likeliest or lie behind it by no more than `TIE` times the resolution of
the type, which is that of the greatest logit.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from memory3.answers import FinishReason, GenerationEvent, Text
from memory3.bench.engine_work import Settings, Work, endless, engine_of
from memory3.model.language_model import LanguageModel
from memory3.model.reader import Reading
from memory3.model.source import GenerationOptions
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedTokenizerFast

ROUNDED = (torch.bfloat16, torch.float16)
TIE = 6.0
"""Seen of 20 layers with random weights in bfloat16: 2.2 in 400 tokens. It grows about as the root of the layers."""


class Unequal(Exception):
    """The engine answers other than the model does one request at a time; nothing was timed."""


def check(work: Work, settings: Settings) -> dict[str, Any]:
    """Compare the engine's greedy answers with the model's own, with memories and with texts.

    Returns:
        How many `answers` were compared, how many of them `differ` but by ties, and how far `behind` the likeliest a
        token of these was, in the type's resolution.

    Raises:
        Unequal: some differ otherwise.
    """
    work = replace(work, model=_numbered(work.model))
    asked = list(_asked(work, settings))
    with engine_of(work, len(asked), settings.memories, cold=True) as engine:
        running = [engine.generate(prompt, work.source, options=options) for prompt, options in asked]
        got = [_tokens(generation) for generation in running]
    checkpoint = work.model.checkpoint
    behind = []
    for number, ((prompt, options), tokens) in enumerate(zip(asked, got, strict=True)):
        expected = _tokens(Reading(checkpoint, work.source, options).run(prompt))
        if tokens == expected:
            continue
        told = f"answer {number} of the engine is {checkpoint.text(tokens)!r}, that of the model alone "
        told += f"{checkpoint.text(expected)!r}"
        if checkpoint.model.dtype not in ROUNDED or len(tokens) != len(expected):
            raise Unequal(told)
        led = _Led(work, options, tokens)
        _tokens(led.run(prompt))
        if max(led.behind) > TIE:
            raise Unequal(f"{told}; a token of the engine's is {max(led.behind):.1f} times the resolution less likely")
        behind.append(max(led.behind))
    return {"answers": len(asked), "differ": len(behind), "behind": max(behind, default=0.0)}


def _asked(work: Work, settings: Settings) -> Iterator[tuple[Sequence[int], GenerationOptions]]:
    options = GenerationOptions(settings.tokens, settings.memories)
    plain = GenerationOptions(settings.answer_tokens, memories=0)
    for prompt in work.prompts[: settings.checked]:
        yield prompt, options
    for question in work.questions[: settings.checked]:
        texts = [hit.text for hit in work.source.recall([question], settings.memories)[0]]
        yield work.model.prompt_with_texts(question, texts), plain


class _Led(Reading):
    """A generation that takes given tokens in place of the likeliest.

    Attributes:
        behind: how far each of them lies behind the likeliest, in the resolution of the greatest logit.
    """

    def __init__(self, work: Work, options: GenerationOptions, tokens: Sequence[int]) -> None:
        super().__init__(work.model.checkpoint, work.source, options)
        self._given = iter(tokens)
        self._generates = False
        self.behind: list[float] = []

    def _generate(self, logits: Tensor) -> Generator[GenerationEvent, None, tuple[FinishReason, int]]:
        self._generates = True
        return (yield from super()._generate(self._led(logits)))

    def _read(self, tokens: Sequence[int]) -> Tensor:
        logits = super()._read(tokens)
        return self._led(logits) if self._generates else logits

    def _led(self, logits: Tensor) -> Tensor:
        """Logits of which the given token's is the greatest."""
        given = next(self._given)
        greatest = logits.max()
        resolution = torch.finfo(logits.dtype).eps * greatest.abs().float()
        self.behind.append(float((greatest.float() - logits[given].float()) / resolution))
        led = torch.full_like(logits, -torch.inf)
        led[given] = 0.0
        return led


class _Numbers:
    """A tokenizer that tells generated tokens by their numbers: as texts, special ones are nothing, some are alike."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, tokens: int) -> None:
        self._tokenizer = tokenizer
        self.backend_tokenizer = Tokenizer(WordLevel({str(token): token for token in range(tokens)}, unk_token="0"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def _numbered(model: LanguageModel) -> LanguageModel:
    """The same model, whose answers are the numbers of their tokens."""
    checkpoint = model.checkpoint
    numbers = _Numbers(checkpoint.tokenizer, checkpoint.model.config.vocab_size)
    return endless(LanguageModel(replace(checkpoint, tokenizer=cast(PreTrainedTokenizerFast, numbers))))


def _tokens(events: Iterator[GenerationEvent]) -> list[int]:
    text = "".join(event.text for event in events if isinstance(event, Text))
    return [int(number) for number in text.split()]
