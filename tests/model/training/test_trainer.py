"""A short real run: its loss falls, it goes on from its checkpoint, and what it exports loads and reads memories."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from memory3.model.checkpoint import Checkpoint
from memory3.model.context import Context
from memory3.model.language_model import LanguageModel
from memory3.model.layout import REFERENCE_TOKENS
from memory3.model.recall_weight import recall_bias
from memory3.model.training.batches import Encoder, Sampler
from memory3.model.training.command import recipe_of
from memory3.model.training.reading import answer_logits, exact, gather, memory_logits, write_by_length
from memory3.model.training.recipes import RECIPES
from memory3.model.training.trainer import Recipe, Stage, Trainer, arithmetic, natural_sources, new_model, schedule
from memory3.model.training.worlds import World
from memory3.model.writer import write_references
from memory3.store.errors import InvalidArgument
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

SECONDS = 2.0
RECIPE = Recipe(
    stages=(
        Stage("context", minutes=SECONDS / 60, rows=4, questions=2, copies=0.2, matrix_rate=1e-2, other_rate=1e-2),
        Stage("memory", minutes=SECONDS / 60, rows=6, references=4, reads=2, kept_tokens=4, context_share=0.3),
    ),
    vocabulary=700,
    hidden=32,
    layers=2,
    heads=2,
    kv_heads=1,
    head_size=16,
    intermediate=48,
    memory_layers=(0, 1),
)


def loss_of(trainer: Trainer) -> float:
    """Mean loss of predicting the tokens of one fixed batch about entities of the other split."""
    rows = Sampler(trainer.encoder, World(9, "test"), 9).context_rows(8, 1, 2, 0.0)
    with torch.no_grad():
        logits, targets, _ = answer_logits(trainer.model, rows, None)
    return float(torch.nn.functional.cross_entropy(logits.float(), targets))


def test_a_run_learns_survives_and_exports(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    first = Trainer(replace(RECIPE, stages=RECIPE.stages[:1]), tmp_path, None)
    before = loss_of(first)
    first.run()
    learnt = loss_of(first)
    assert first.step > 3 and learnt < before - 0.3
    assert not (tmp_path / "checkpoint.tmp").exists()

    # Another process goes on where this one ended, and with the stage that is left.
    second = Trainer(RECIPE, tmp_path, None)
    assert second.step == first.step and second.done == {"context": RECIPE.stages[0].minutes, "memory": 0.0}
    for ours, theirs in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    second.run()
    assert second.step > first.step
    assert Trainer(RECIPE, tmp_path, None).done == {stage.name: stage.minutes for stage in RECIPE.stages}

    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.bfloat16} and "lm_head.weight" not in saved
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    exported = LanguageModel.load(str(tmp_path / "model"))
    assert exported.checkpoint.layout == RECIPE.layout(kept_tokens=4)
    (value,) = exported.write(["Mira keeps bees."])
    assert len(value) == exported.key_value_bytes
    for name, weight in second.model.state_dict().items():
        assert torch.equal(exported.checkpoint.model.state_dict()[name], weight.to(torch.bfloat16).float())


def test_a_finished_run_trains_no_more(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    short = replace(RECIPE, stages=(replace(RECIPE.stages[0], minutes=0.2 / 60),))
    first = Trainer(short, tmp_path, None)
    first.run()
    again = Trainer(short, tmp_path, None)
    again.run()
    assert again.step == first.step > 0


def test_its_log_tells_loss_and_exact_match(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Of every stage, on entities never trained on."""
    tokenizer.save_pretrained(tmp_path)
    trainer = Trainer(RECIPE, tmp_path, None)
    sums = {"loss_copy": 50.0, "steps_copy": 25.0, "norm": 100.0, "tokens": 9.0, "steps_context": 0, "steps_memory": 0}
    trainer._report(RECIPE.stages[1], 0.5, sums)
    (line,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert line["stage"] == "memory" and line["loss_copy"] == 2.0 and line["norm"] == 2.0 and line["minutes"] == 0.5
    assert all(0 <= line[name] <= 1 for name in ("context_1", "context_4", "memory", "memory_unweighed", "refused"))
    assert line["kinds"] and all(0 <= value <= 1 for value in line["kinds"].values())


def test_a_run_begins_with_the_stage_named() -> None:
    """What a model to go on from has learnt before is left out."""
    recipe = recipe_of("tiny", 10, "memory")
    assert [(stage.name, stage.minutes) for stage in recipe.stages] == [("memory", 10)]
    assert [stage.name for stage in recipe_of("tiny", None, "context-4").stages] == ["context-4", "memory"]
    assert recipe_of("tiny", None, None) == RECIPES["tiny"]
    with pytest.raises(InvalidArgument, match="no stage 'memories'; its stages are copy, context-1, context-4, memory"):
        recipe_of("tiny", 10, "memories")


def test_it_tells_how_far_it_is(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """In minutes of the whole recipe, over all its stages."""
    tokenizer.save_pretrained(tmp_path)
    told: list[float] = []
    Trainer(RECIPE, tmp_path, None, progress=told.append).run()
    whole = sum(stage.minutes for stage in RECIPE.stages)
    assert told == sorted(told) and told[0] < 0.1 * whole and RECIPE.stages[0].minutes < told[-1] < whole


def test_natural_text_is_taken_from_what_there_is(tmp_path: Path) -> None:
    """Also from one kind alone; once a folder without any ended in an error of Python's."""
    with pytest.raises(InvalidArgument, match="holds no natural text to train on"):
        natural_sources(RECIPE, tmp_path, 1)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "code.txt").write_text("x = {1: 2}; " * 100)
    with pytest.raises(InvalidArgument, match="put prose into"):
        natural_sources(RECIPE, tmp_path, 1)
    (tmp_path / "text" / "bees.txt").write_text("Mira keeps nine bees on the roof of the old post office. " * 20)
    assert [share for _, share in natural_sources(RECIPE, tmp_path, 1)] == [RECIPE.quotation_share, RECIPE.cloze_share]


def test_a_processor_without_bfloat16_products_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """There they take many times as long (bench/training_step.py)."""
    for flags, expected in (
        ({}, torch.float32),
        ({"avx512_bf16": False}, torch.float32),
        ({"amx_bf16": True}, torch.bfloat16),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags)
        assert arithmetic("cpu") == expected
        assert arithmetic("cuda") == torch.bfloat16


def test_the_rate_warms_up_stays_and_decays() -> None:
    assert schedule(0.0, 0.3) == 0.05
    assert schedule(0.01, 0.3) == pytest.approx(0.5)
    assert [schedule(progress, 0.3) for progress in (0.02, 0.4, 0.7)] == [1.0, 1.0, 1.0]
    assert schedule(0.85, 0.3) == pytest.approx(0.5)
    assert schedule(1.0, 0.3) == schedule(1.1, 0.3) == 0.0
    assert schedule(1.0, 0.0) == 1.0


def test_rows_read_their_own_references_and_train_them(tokenizer: PreTrainedTokenizerFast) -> None:
    """A row's loss depends on the references that it reads and on no other, and reaches the weights through them."""
    model = new_model(RECIPE, tokenizer).eval()
    encoder = Encoder(tokenizer)
    layout = RECIPE.layout(kept_tokens=4)
    batch = Sampler(encoder, World(3, "train"), 3).memory_batch(references=5, rows=5, reads=2, unknown=0.0)
    kept = write_references(model, batch.references.tokens, batch.references.valid, layout)
    memories = gather(kept, batch.reads, batch.scores, layout.recall_weight)
    assert sorted(memories) == [0, 1] and memories[0].key.shape == (5, 1, 8, 16)
    logits, targets, weights = answer_logits(model, batch.rows, memories, batch.prefix)
    assert logits.shape == (len(targets), 700) and len(weights) == len(targets)
    torch.testing.assert_close(memory_logits(model, batch, layout)[0], logits)
    rows = torch.arange(5)[:, None].expand_as(batch.rows.tokens)[batch.rows.weights > 0]
    for row in range(5):
        (gradient,) = torch.autograd.grad(
            logits[rows == row].square().sum(), kept[0].key, retain_graph=True, allow_unused=False
        )
        reached = gradient.abs().sum(dim=(1, 2, 3)).nonzero()[:, 0].tolist()
        assert reached == sorted(number for number in batch.reads[row].tolist() if number >= 0)


def test_training_reads_as_generation_does(tokenizer: PreTrainedTokenizerFast) -> None:
    """The logits that a step learns from are those of the reader: same prefix, positions, memories and weights."""
    model = new_model(RECIPE, tokenizer).eval()
    layout = replace(RECIPE.layout(kept_tokens=4), stored="float32", recall_weight=3.0)
    checkpoint = Checkpoint("test", model, tokenizer, layout)
    batch = Sampler(Encoder(tokenizer), World(3, "train"), 3).memory_batch(references=9, rows=14, reads=3, unknown=0.2)
    texts = [
        checkpoint.text(tokens[valid].tolist())
        for tokens, valid in zip(batch.references.tokens, batch.references.valid, strict=True)
    ]
    values = LanguageModel(checkpoint).write(texts)
    with torch.no_grad():
        logits, _, _ = memory_logits(model, batch, layout)
    chosen = batch.rows.weights > 0
    at = 0
    for row, (tokens, reads) in enumerate(zip(batch.rows.tokens, batch.reads.tolist(), strict=True)):
        read = [number for number in reads if number >= 0]
        bias = recall_bias(batch.scores[row, : len(read)], layout.recall_weight)
        memories = checkpoint.form.layers([values[n] for n in read], torch.device("cpu"), torch.float32, bias)
        context = Context(model)
        context.extend(checkpoint.prefix)
        context.skip(REFERENCE_TOKENS)
        for place in chosen[row].nonzero()[:, 0].tolist():
            expected = context.extend(tokens[context._tokens - len(checkpoint.prefix) : place + 1].tolist(), memories)
            torch.testing.assert_close(logits[at], expected, atol=1e-5, rtol=1e-5)
            at += 1
    assert at == len(logits)


@pytest.mark.parametrize("kept_tokens", [1, 16, 40, 128])
def test_writing_by_length_keeps_what_writing_all_at_once_keeps(
    tokenizer: PreTrainedTokenizerFast, kept_tokens: int
) -> None:
    """Also where a layout keeps more tokens than some references have, which once ended in an error."""
    model = new_model(RECIPE, tokenizer).eval()
    layout = RECIPE.layout(kept_tokens)
    batch = Sampler(Encoder(tokenizer), World(4, "train", (1, 9)), 4).memory_batch(21, 5, 2, 0.0)
    with torch.no_grad():
        by_length = write_by_length(model, batch.references, layout)
        at_once = write_references(model, batch.references.tokens, batch.references.valid, layout)
    assert batch.references.valid.sum(dim=1).min() < 40 < batch.references.valid.sum(dim=1).max()
    for layer, whole in at_once.items():
        part = by_length[layer]
        assert torch.equal(part.real, whole.real)
        hole = ~whole.real[..., None]
        for ours, theirs in ((part.key, whole.key), (part.value, whole.value)):
            torch.testing.assert_close(ours.masked_fill(hole, 0), theirs.masked_fill(hole, 0), atol=1e-5, rtol=1e-5)


def test_exact_match_counts_whole_answers(tokenizer: PreTrainedTokenizerFast) -> None:
    """Logits that say the answer are right; one wrong token of it is wrong, one of the question is not."""
    encoder = Encoder(tokenizer)
    rows = Sampler(encoder, World(3, "train"), 3).memory_batch(references=4, rows=4, reads=2, unknown=0.0).rows
    chosen = rows.weights > 0
    logits = torch.nn.functional.one_hot(rows.targets[chosen], 700).float()
    assert exact(logits, rows) == [True] * 4
    owner = torch.arange(4)[:, None].expand_as(rows.tokens)[chosen]
    is_answer = rows.weights[chosen] >= 1.0
    for wanted, expected in ((True, [True, True, False, True]), (False, [True] * 4)):
        wrong = logits.clone()
        place = int(((owner == 2) & (is_answer == wanted)).nonzero()[0, 0])
        wrong[place] = wrong[place].roll(1)
        assert exact(wrong, rows) == expected
