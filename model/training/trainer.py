"""The training loop: two stages as in the paper, bounded by time, on one GPU or on several CPU processes."""

import copy
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from ...store.errors import InvalidArgument
from ..attention import NAME
from ..layout import CONFIG_KEY, MemoryLayout
from ..loading import load_model, load_tokenizer
from .batches import Encoder, PassageSource, Rows, Sampler
from .cloze import Cloze
from .natural import QuestionSet, Quotations
from .optimizer import MasterOptimizer
from .reading import answer_logits, exact, memory_logits
from .tokenizer import train_tokenizer
from .worlds import World

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of training: how long, on what, and how fast.

    `minutes` is wall-clock time; within it the learning rate rises over the first 2 %, stays, and falls to zero over
    the last `decay`.
    """

    name: str
    minutes: float
    matrix_rate: float = 4e-3
    other_rate: float = 3e-3
    decay: float = 0.0
    rows: int = 16
    references: int = 1
    """Most references in a context (stage 1), or references written in a step (stage 2)."""
    questions: int = 6
    """Questions in a row (stage 1)."""
    reads: int = 0
    """Memories that a row reads; 0 trains on text in the context."""
    kept_tokens: int = 16
    context_share: float = 0.0
    """Share of the steps of a memory stage that train on text in the context."""
    unknown: float = 0.12
    """Share of questions without an answer."""
    copies: float = 0.0
    """Share of steps on random tokens to be repeated, from which copying is learnt soonest."""
    facts: tuple[int, int] = (2, 5)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model's shape and the stages that train it."""

    stages: tuple[Stage, ...]
    vocabulary: int = 2048
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 4
    head_size: int = 64
    intermediate: int = 640
    memory_layers: tuple[int, ...] = (1, 2, 3, 4)
    rule: str = "key_value_norm"
    recall_weight: float = 30.0
    stored: str = "int4"
    weight_decay: float = 0.05
    quotation_share: float = 0.06
    cloze_share: float = 0.16
    question_set_share: float = 0.22
    seed: int = 1

    def layout(self, kept_tokens: int) -> MemoryLayout:
        """The memory layout of a stage that keeps `kept_tokens`."""
        return MemoryLayout(
            self.memory_layers, kept_tokens, self.rule, stored=self.stored, recall_weight=self.recall_weight
        )


def natural_sources(recipe: Recipe, text: Path, seed: int) -> tuple[tuple[PassageSource, float], ...]:
    """What a folder holds of natural text, and the share of each in the passages.

    Raises:
        InvalidArgument: it holds none that passages can be made of.
    """
    found: list[tuple[Quotations | Cloze | QuestionSet, float]] = [
        (Quotations(text / "text", seed), recipe.quotation_share),
        (Cloze(text / "text", seed), recipe.cloze_share),
    ]
    found += [(QuestionSet(path, seed), recipe.question_set_share) for path in sorted((text / "squad").glob("*.json"))]
    sources = tuple((source, share) for source, share in found if len(source))
    if not sources:
        raise InvalidArgument(
            f"{text} holds no natural text to train on: put prose into {text / 'text'}/*.txt or question sets in "
            f"SQuAD's form into {text / 'squad'}/*.json, or leave --text out"
        )
    return sources


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A Llama of the recipe's shape with fresh weights."""
    config = LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        head_dim=recipe.head_size,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(recipe.seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation=NAME)
    return model


def new_tokenizer(recipe: Recipe, natural: list[PassageSource]) -> PreTrainedTokenizerFast:
    """A tokenizer trained on worlds and on natural text, half and half."""
    world = World(recipe.seed + 90, "train")
    passages = [world.passage() for _ in range(12_000)]
    texts = [p.text + "\n" + "\n".join(q.text for q in p.questions) for p in passages]
    for source in natural:
        texts += [source.passage().text for _ in range(6_000)]
    return train_tokenizer(iter(texts), recipe.vocabulary)


class Trainer:
    """Trains one model in one process, or one of several processes that share the work.

    Args:
        out: where the log (`log.jsonl`), checkpoint (`checkpoint.pt`) and tokenizer are kept.
        text: folder with `text/*.txt` and `squad/*.json`, or None to train on worlds alone.
        start: folder of a trained model of the recipe's shape to go on from, or None for fresh weights; a checkpoint
            in `out` comes first.
        progress: told before each step how many of the recipe's minutes are done.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        text: Path | None,
        device: str = "cpu",
        start: Path | None = None,
        progress: Callable[[float], None] = lambda minutes: None,
    ) -> None:
        self.recipe, self.out, self.device = recipe, out, device
        self._progress = progress
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        seed = recipe.seed + 1000 * self.rank + int(time.time()) % 1000
        self._natural = () if text is None else natural_sources(recipe, text, seed)
        self.tokenizer = self._tokenizer(start, [source for source, _ in self._natural])
        self.encoder = Encoder(self.tokenizer)
        self._seed = seed
        self.model = new_model(recipe, self.tokenizer)
        nn.Module.to(self.model, device=device, dtype=arithmetic(device))
        if start is not None:
            self._begin_with(start)
        self.optimizer = self._new_optimizer(recipe.stages[0])
        self._stopping = False
        self.step, self.done = 0, {stage.name: 0.0 for stage in recipe.stages}
        self._test = Sampler(self.encoder, World(77, "test"), 77)
        self._load()

    def _begin_with(self, start: Path) -> None:
        """Take over the weights of a trained model.

        Raises:
            NotFound: there is no model in the folder.
            InvalidArgument: it has another shape than the recipe's.
        """
        weights = load_model(str(start), "cpu", None).state_dict()
        try:
            self.model.load_state_dict(weights)
        except RuntimeError as error:
            raise InvalidArgument(
                f"the model in {start} has another shape than this recipe's; start from one of the same preset"
            ) from error

    def _tokenizer(self, start: Path | None, natural: list[PassageSource]) -> PreTrainedTokenizerFast:
        """The tokenizer in `out`; if it is missing, the first process puts that of `start` or a new one there."""
        if self.rank == 0 and not (self.out / "tokenizer.json").exists():
            known = None if start is None else load_tokenizer(str(start))
            (known or new_tokenizer(self.recipe, natural)).save_pretrained(self.out)
        if dist.is_initialized():
            dist.barrier()
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(self.out)
        return tokenizer

    def _new_optimizer(self, stage: Stage) -> MasterOptimizer:
        return MasterOptimizer(self.model, stage.matrix_rate, stage.other_rate, self.recipe.weight_decay)

    def run(self) -> None:
        """Train what is left of the stages and export the model; `stop` ends it before, with a checkpoint."""
        for stage in self.recipe.stages:
            if self.done[stage.name] < stage.minutes:
                self._run_stage(stage)
            if self._stopping:
                return
        if self.rank == 0:
            self.export()

    def stop(self) -> None:
        """End the run after the step under way, in every process that shares it; may be called by a signal."""
        self._stopping = True

    def export(self) -> None:
        """Save the model in `out/model` as any Transformers model is saved, its memory layout in the configuration."""
        layout = asdict(self.recipe.layout(self.recipe.stages[-1].kept_tokens))
        setattr(self.model.config, CONFIG_KEY, layout)
        exported = copy.deepcopy(self.model)
        nn.Module.to(exported, dtype=torch.bfloat16)
        exported.save_pretrained(self.out / "model")
        self.tokenizer.save_pretrained(self.out / "model")

    def _run_stage(self, stage: Stage) -> None:
        self.optimizer.set_rates(stage.matrix_rate, stage.other_rate)
        world = World(self._seed + self.step, "train", stage.facts)
        sampler = Sampler(self.encoder, world, self._seed + self.step, self._natural)
        started, before, saved = time.monotonic(), self.done[stage.name], time.monotonic()
        sums: dict[str, float] = defaultdict(float)
        while (spent := self._agree(before + (time.monotonic() - started) / 60)) < stage.minutes:
            if self._stopping:
                self.done[stage.name] = spent
                self._save()
                log.info("stopped at step %d, minute %.1f of stage %s", self.step, spent, stage.name)
                return
            self._progress(sum(self.done.values()) - self.done[stage.name] + spent)
            self.model.train()
            name, loss, tokens = self._loss(stage, sampler)
            loss.backward()
            norm = self.optimizer.step(rate=schedule(spent / stage.minutes, stage.decay))
            self.step += 1
            for key, value in (
                (f"loss_{name}", float(loss.detach())),
                (f"steps_{name}", 1.0),
                ("tokens", tokens),
                ("norm", norm),
            ):
                sums[key] += value
            if self.step % 50 == 0:
                self._report(stage, spent, sums)
                sums.clear()
            if time.monotonic() - saved > 120:
                self.done[stage.name], saved = spent, time.monotonic()
                self._save()
        self.done[stage.name] = stage.minutes
        self._save()

    def _agree(self, spent: float) -> float:
        """The mean of all processes' clocks, and whether one was told to stop, so that all end at the same step."""
        if not dist.is_initialized():
            return spent
        shared = torch.tensor([spent, float(self._stopping)], dtype=torch.float64)
        dist.all_reduce(shared)
        self._stopping = bool(shared[1] > 0)
        return float(shared[0]) / dist.get_world_size()

    def _loss(self, stage: Stage, sampler: Sampler) -> tuple[str, Tensor, int]:
        """Draw a batch and return its name, loss and number of tokens."""
        chance = (self.step * 0.6180339887) % 1.0
        if chance < stage.copies:
            rows = _move(copies(self.encoder, stage.rows * 2, self.step + self.rank), self.device)
            return "copy", _cross_entropy(*answer_logits(self.model, rows)), rows.tokens.numel()
        if stage.reads == 0 or chance < stage.copies + stage.context_share:
            references = stage.references if stage.reads == 0 else stage.reads
            count = stage.rows if stage.reads == 0 else max(4, stage.rows // 8)
            rows = _move(sampler.context_rows(count, references, stage.questions, stage.unknown), self.device)
            return "context", _cross_entropy(*answer_logits(self.model, rows)), rows.tokens.numel()
        batch = sampler.memory_batch(stage.references, stage.rows, stage.reads, stage.unknown)
        logits = memory_logits(self.model, _move(batch, self.device), self.recipe.layout(stage.kept_tokens))
        return "memory", _cross_entropy(*logits), batch.references.tokens.numel() + batch.rows.tokens.numel()

    @torch.no_grad()
    def evaluate(self, stage: Stage, batches: int = 2) -> dict[str, Any]:
        """Exact match on entities never trained on: text in the context, memories, and the share refused rightly.

        "memory_unweighed" reads all five alike, as the paper does; "kinds" is exact match from memories by kind of
        entity, a few questions each.
        """
        self.model.eval()
        self._test = Sampler(self.encoder, World(77 + self.step, "test", (2, 5)), 77 + self.step)
        result: dict[str, Any] = {}
        for count in (1, 4):
            rows = _move(self._test.context_rows(32 if count == 1 else 16, count, 1, 0.0), self.device)
            hits = exact(answer_logits(self.model, rows)[0], rows)
            result[f"context_{count}"] = sum(hits) / len(hits)
        if stage.reads == 0:
            return result
        layout = self.recipe.layout(stage.kept_tokens)
        hits_by_kind: dict[str, list[bool]] = defaultdict(list)
        alike: list[bool] = []
        for _ in range(batches):
            batch = _move(self._test.memory_batch(32, 64, 5, 0.15), self.device)
            hits = exact(memory_logits(self.model, batch, layout)[0], batch.rows)
            for fact, hit in zip(batch.facts, hits, strict=True):
                hits_by_kind[fact.split(".")[0]].append(hit)
            hits = exact(memory_logits(self.model, batch, replace(layout, recall_weight=0.0))[0], batch.rows)
            alike += [hit for fact, hit in zip(batch.facts, hits, strict=True) if fact]
        refused = hits_by_kind.pop("", [])
        answered = [hit for hits in hits_by_kind.values() for hit in hits]
        return result | {
            "memory": sum(answered) / len(answered),
            "memory_unweighed": sum(alike) / len(alike),
            "refused": sum(refused) / max(1, len(refused)),
            "kinds": {kind: sum(hits) / len(hits) for kind, hits in sorted(hits_by_kind.items())},
        }

    def _report(self, stage: Stage, spent: float, sums: dict[str, float]) -> None:
        if self.rank != 0:
            return
        line: dict[str, object] = {"stage": stage.name, "step": self.step, "minutes": round(spent, 2)}
        for name in ("copy", "context", "memory"):
            if sums[f"steps_{name}"]:
                line[f"loss_{name}"] = round(sums[f"loss_{name}"] / sums[f"steps_{name}"], 4)
        line["norm"] = round(sums["norm"] / 50, 3)
        line["tokens"] = int(sums["tokens"])
        line |= _rounded(self.evaluate(stage))
        line["time"] = round(time.time())
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        log.info("%s, minute %.1f of %.1f: %s", stage.name, spent, stage.minutes, line)

    def _save(self) -> None:
        """Write the checkpoint aside and rename it, so that a kill leaves the old one or the new one."""
        if self.rank != 0:
            return
        state = {
            "optimizer": self.optimizer.state(),
            "step": self.step,
            "done": self.done,
            "recipe": asdict(self.recipe),
        }
        torch.save(state, self.out / "checkpoint.tmp")
        os.replace(self.out / "checkpoint.tmp", self.out / "checkpoint.pt")

    def _load(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.optimizer.load(state["optimizer"])
        self.step = state["step"]
        self.done |= {name: minutes for name, minutes in state["done"].items() if name in self.done}
        log.info("resumed at step %d", self.step)


def arithmetic(device: str) -> torch.dtype:
    """The type to train in: bfloat16 where it is fast, float32 on a processor that has no products of it."""
    if device != "cpu":
        return torch.bfloat16
    capabilities = torch.cpu.get_capabilities()
    fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


def schedule(progress: float, decay: float) -> float:
    """Warmup, stable, decay: the learning rate's factor at a share of a stage's time."""
    if progress < 0.02:
        return max(0.05, progress / 0.02)
    if progress > 1 - decay:
        return max(0.0, (1 - progress) / decay)
    return 1.0


def copies(encoder: Encoder, rows: int, seed: int) -> Rows:
    """Rows of random tokens that are then repeated."""
    generator = torch.Generator().manual_seed(seed)
    tokens, weights, positions = [], [], []
    first = max(encoder.bos, encoder.eos, encoder.pad) + 1
    for _ in range(rows):
        length = int(torch.randint(12, 40, (), generator=generator))
        drawn = torch.randint(first, len(encoder.tokenizer), (length,), generator=generator).tolist()
        row = [*encoder.prefix, *drawn, encoder.bos, *drawn]
        tokens.append(row)
        weights.append([0.0] * (len(encoder.prefix) + length + 2) + [1.0] * (length - 1))
        positions.append(list(range(len(row))))
    return encoder.rows(tokens, weights, positions)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _rounded(value) if isinstance(value, dict) else round(value, 3) for name, value in values.items()}


def _cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    losses = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    return (losses * weights).sum() / (weights >= 1.0).sum().clamp(min=1)


def _move(batch: T, device: str) -> T:
    """A copy of a batch (a dataclass, perhaps of dataclasses) with every tensor in it on `device`."""
    whole: Any = batch
    if isinstance(whole, Tensor):
        whole = whole.to(device)
    elif is_dataclass(whole):
        whole = type(batch)(*(_move(getattr(whole, field.name), device) for field in fields(whole)))
    moved: T = whole
    return moved
