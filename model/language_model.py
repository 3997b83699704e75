"""A language model that writes memories and answers from them."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from ..answers import GenerationEvent
from ..store.errors import InvalidArgument
from .checkpoint import Checkpoint
from .layout import REFERENCE_TOKENS, TRAINED, MemoryLayout, check_layout, layout_of
from .loading import TINY, load_codebooks, load_model, load_tokenizer
from .prompts import QUESTION
from .reader import Reading
from .source import GenerationOptions, MemorySource
from .splitter import Splitter
from .writer import write_references

_log = logging.getLogger(__name__)

WRITE_BATCH = 16
"""References run through the model together."""


class LanguageModel:
    """Loads once, serves many threads: nothing of a call is kept between calls."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @classmethod
    def load(
        cls,
        name_or_path: str | None = None,
        device: str = "cpu",
        *,
        layout: MemoryLayout | None = None,
        stored: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> "LanguageModel":
        """Load a folder or a Hugging Face name; None is the packaged model.

        Args:
            layout: which layers and tokens become memories; None takes what the checkpoint names, or the paper's.
            stored: how key-values are stored (`STORED` in layout.py), in place of what the layout says.
            dtype: of the arithmetic; None is float32 on a CPU and the checkpoint's own elsewhere.

        Raises:
            NotFound: there is no such model.
            InvalidArgument: it cannot read memories; the message says why.
        """
        model = load_model(name_or_path, device, dtype)
        name = Path(name_or_path or TINY).name
        layout = layout or layout_of(model.config)
        if stored is not None:
            layout = replace(layout, stored=stored)
        check_layout(layout, model.config)
        codebooks = load_codebooks(name_or_path, model.device) if layout.stored == TRAINED else None
        checkpoint = Checkpoint(name, model, load_tokenizer(name_or_path), layout, codebooks)
        _check_writing(checkpoint)
        return cls(checkpoint)

    @property
    def name(self) -> str:
        return self.checkpoint.name

    @property
    def fingerprint(self) -> str:
        """Names whose key-values these are; those of another are never read."""
        return self.checkpoint.fingerprint

    @property
    def key_value_bytes(self) -> int:
        """Bytes of one memory's key-values."""
        return self.checkpoint.form.bytes

    @cached_property
    def _splitter(self) -> Splitter:
        return Splitter(self.checkpoint.tokenizer, REFERENCE_TOKENS)

    def split(self, text: str) -> list[str]:
        """Cut a text into references of at most 128 tokens, which join to it."""
        return self._splitter.split(text)

    @torch.inference_mode()
    def write(self, texts: Sequence[str], *, shorten: bool = False) -> list[bytes]:
        """Key-values of references, in their order; each `key_value_bytes` long.

        Args:
            shorten: take the first 128 tokens of a longer text, such as was cut for a model with other tokens.

        Raises:
            InvalidArgument: a text has no tokens, or more than 128.
        """
        rows = [self.checkpoint.encode(text) for text in texts]
        if shorten:
            rows = [self._shortened(row) for row in rows]
        for text, row in zip(texts, rows, strict=True):
            if not 1 <= len(row) <= REFERENCE_TOKENS:
                raise InvalidArgument(
                    f"a reference has 1 to {REFERENCE_TOKENS} tokens, {text[:40]!r} has {len(row)}; cut it with `split`"
                )
        # References of like length together, so that little is padded.
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        written: list[bytes] = [b""] * len(rows)
        for start in range(0, len(order), WRITE_BATCH):
            chosen = order[start : start + WRITE_BATCH]
            for number, value in zip(chosen, self._write([rows[n] for n in chosen]), strict=True):
                written[number] = value
        return written

    def _shortened(self, row: list[int]) -> list[int]:
        if len(row) > REFERENCE_TOKENS:
            _log.warning(
                "a reference has %d tokens of model %s, which reads the first %d; delete its document and add it again "
                "to have it cut for this model",
                len(row),
                self.name,
                REFERENCE_TOKENS,
            )
        return row[:REFERENCE_TOKENS]

    def _write(self, rows: list[list[int]]) -> Iterator[bytes]:
        tokens, valid = self.checkpoint.padded(rows)
        kept = write_references(self.checkpoint.model, tokens, valid, self.checkpoint.layout)
        layers = [kept[layer] for layer in self.checkpoint.layout.layers]
        for number in range(len(rows)):
            # All heads keep as many tokens of a reference: the layout's number, or all if it has fewer.
            real = layers[0].real[number]
            count = int(real[0].sum())
            values = torch.stack(
                [
                    torch.stack(
                        [_real(layer.key[number], layer.real[number]), _real(layer.value[number], layer.real[number])]
                    )
                    for layer in layers
                ]
            )
            yield self.checkpoint.form.encode(values, count)

    def generate(self, prompt: str, memories: MemorySource, *, options: GenerationOptions) -> Iterator[GenerationEvent]:
        """Continue a prompt, reading memories by the paper's schedule; closing the iterator stops it."""
        yield from Reading(self.checkpoint, memories, options).run(self.checkpoint.encode(prompt))

    def ask(self, question: str, memories: MemorySource, *, options: GenerationOptions) -> Iterator[GenerationEvent]:
        """Answer a question from memories, put to the model in its own form."""
        prompt = self.question(question)
        yield from Reading(self.checkpoint, memories, options).run(prompt, query=question)

    def ask_with_texts(
        self, question: str, texts: Sequence[str], *, options: GenerationOptions
    ) -> Iterator[GenerationEvent]:
        """Answer from texts in the context (text RAG): what reading memories is compared with."""
        yield from Reading(self.checkpoint, None, options).run(self.prompt_with_texts(question, texts))

    def prompt_with_texts(self, question: str, texts: Sequence[str]) -> list[int]:
        """Tokens of a prompt with texts before the question, without its first `<s>`."""
        checkpoint = self.checkpoint
        context = checkpoint.encode(checkpoint.layout.prefix)
        for number, text in enumerate(texts):
            context += ([checkpoint.encode("x\n")[-1]] if number else []) + checkpoint.encode(text)
        return [*context, *checkpoint.bos, *self.question(question)]

    def question(self, question: str) -> list[int]:
        """Tokens of a question in the form of the model: its chat template, or our own models' form."""
        if not question.strip():
            raise InvalidArgument("the question is empty; ask something")
        tokenizer = self.checkpoint.tokenizer
        if tokenizer.chat_template is None:
            return self.checkpoint.encode(QUESTION.format(question=question))
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
        assert isinstance(chat, str)
        # The reader puts `<s>` before the context itself.
        return self.checkpoint.encode(chat.removeprefix(tokenizer.bos_token or ""))


@torch.inference_mode()
def _check_writing(checkpoint: Checkpoint) -> None:
    """Write one short reference, so that a model of another build shows when it is loaded and not at its first use.

    Raises:
        InvalidArgument: the model cannot be written with; the message says why.
    """
    try:
        tokens, valid = checkpoint.padded([checkpoint.encode("a short text")])
        kept = write_references(checkpoint.model, tokens, valid, checkpoint.layout)
        layers, _, groups, _, size = checkpoint.form.shape
        found = {tuple(tensor.shape) for layer in kept.values() for tensor in (layer.key, layer.value)}
        fits = len(kept) == layers and all(shape[:2] + shape[3:] == (1, groups, size) for shape in found)
    except InvalidArgument:
        raise
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidArgument(
            f"memories cannot be written with a model of type {checkpoint.model.config.model_type!r}: its attention is "
            f"not built as Llama's is ({type(error).__name__}: {error}); use one such as Llama, Qwen3, Mistral, Gemma "
            "or Phi-3"
        ) from error
    if not fits:
        raise InvalidArgument(
            f"a model of type {checkpoint.model.config.model_type!r} makes keys and values of the shapes "
            f"{sorted(found)}, its configuration says {groups} KV heads of {size}; use another model"
        )


def _real(kept: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The real tokens of one reference's kept keys or values: (G, K, D) and (G, K) to (G, real tokens, D)."""
    groups, _, size = kept.shape
    return kept[real].view(groups, -1, size)
