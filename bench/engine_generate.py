"""Transformers' own `generate`, with SDPA, on the weights of the engine's model: text RAG as most would run it.

Prompts are padded on the left, as Transformers asks of decoders, and run as one batch from the first token to the last.
Its cache is the default one, which grows; nothing is compiled.
"""

import copy
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

import torch
from memory3.bench.engine_work import Pass
from memory3.model.language_model import LanguageModel
from transformers import GenerationConfig, PreTrainedModel


class Generate:
    """Greedy answers, all of one length, which no end token ends.

    Attributes:
        model: the engine's weights, with SDPA.
    """

    def __init__(self, model: LanguageModel, tokens: int) -> None:
        self._checkpoint = model.checkpoint
        self._tokens = tokens
        self.model = _with_sdpa(model.checkpoint.model)
        # The checkpoint's own may sample, and names end tokens.
        self.model.generation_config = GenerationConfig(
            do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=self._pad
        )

    @property
    def _pad(self) -> int:
        """Any token will do: the mask hides it."""
        pad: int | None = self._checkpoint.tokenizer.pad_token_id
        return 0 if pad is None else pad

    def answers(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """The tokens generated behind each prompt, which comes without its `<s>`."""
        rows = [[*self._checkpoint.bos, *prompt] for prompt in prompts]
        width = max(map(len, rows))
        device = self.model.device
        tokens = torch.tensor([[self._pad] * (width - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
        made = cast(Any, self.model).generate(input_ids=tokens, attention_mask=mask)
        answers: list[list[int]] = made[:, width:].tolist()
        return answers

    def run(self, prompts: Sequence[Sequence[int]]) -> Pass:
        """Answer one batch; a request waits for all of it."""
        began = time.perf_counter()
        made = sum(map(len, self.answers(prompts)))
        wall = time.perf_counter() - began
        return Pass(wall, made, {"total": wall})


def _with_sdpa(model: PreTrainedModel) -> PreTrainedModel:
    """A model of its own for another attention, which shares weights and buffers."""
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    twin: PreTrainedModel = copy.deepcopy(model, shared)
    twin.set_attn_implementation("sdpa")
    return twin
