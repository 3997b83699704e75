"""The checkpoint with random weights: what is written loads, and says only what has a text."""

from pathlib import Path

import pytest
import torch
from memory3.bench.random_model import SHAPES, Shape, spoken, write_model
from memory3.model.context import Context
from memory3.model.language_model import LanguageModel
from memory3.model.layout import MemoryLayout

TINY = Shape(layers=4, query_heads=4, kv_heads=2, head_size=16, hidden=64, mlp=64, vocabulary=2_560)
TOKENS = 64
PROMPTS = ("The ferry to the island leaves at nine.", "Who keeps bees?", "7")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("random")
    write_model(TINY, made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return LanguageModel.load(str(folder))


def test_layout_and_shape(model: LanguageModel) -> None:
    checkpoint = model.checkpoint
    assert checkpoint.layout == MemoryLayout((0, 1), kept_tokens=8, rule="attention_sum", stored="int8")
    assert checkpoint.form.shape == (2, 2, 2, 8, 16)
    config = checkpoint.model.config
    assert (config.num_attention_heads, config.hidden_size, config.intermediate_size) == (4, 64, 64)
    assert (config.vocab_size, config.max_position_embeddings) == (2_560, 2_048)
    assert checkpoint.bos == [0] and checkpoint.ends == {1}
    assert len(model.write(["Mira keeps bees."])[0]) == model.key_value_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_tokens_with_a_text_are_generated(folder: Path, dtype: torch.dtype) -> None:
    checkpoint = LanguageModel.load(str(folder), dtype=dtype).checkpoint
    generated = set()
    for prompt in PROMPTS:
        context = Context(checkpoint.model)
        logits = context.extend([*checkpoint.bos, *checkpoint.encode(prompt)])
        for _ in range(TOKENS):
            assert logits.shape == (2_560,) and logits.max() > 0
            token = int(logits.argmax())
            assert checkpoint.text([token])
            generated.add(token)
            logits = context.extend([token])
    assert len(generated) > TOKENS / 2


def test_whatever_stands_before_a_token_with_a_text_comes_next(model: LanguageModel) -> None:
    tokens = torch.randint(len(model.checkpoint.tokenizer), (512,), generator=torch.Generator().manual_seed(3))
    logits = Context(model.checkpoint.model).extend_keeping(512, tokens.tolist())
    assert logits.amax(-1).min() > 0
    assert set(logits.argmax(-1).tolist()) <= set(spoken(model.checkpoint.tokenizer))


def test_rows_of_tokens_with_a_text_are_pairs_of_negatives(model: LanguageModel) -> None:
    rows, tokens = model.checkpoint.model.lm_head.weight, spoken(model.checkpoint.tokenizer)
    assert len(tokens) > 1_500
    first, second = tokens[0 : len(tokens) // 2 * 2 : 2], tokens[1::2]
    assert torch.equal(rows[first], -rows[second]) and rows[first].any(dim=1).all()
    others = sorted(set(range(TINY.vocabulary)) - set(first) - set(second))
    assert not rows[others].any()


def test_the_seed_says_which_weights(folder: Path, tmp_path: Path) -> None:
    write_model(TINY, tmp_path / "same")
    write_model(TINY, tmp_path / "other", seed=1)
    same, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("same", "other"))
    assert same == (folder / "model.safetensors").read_bytes() != other


def test_the_shapes() -> None:
    paper, small = SHAPES["paper"], SHAPES["small"]
    assert (paper.layers // 2, 2, paper.kv_heads, 8, paper.head_size) == (22, 2, 8, 8, 80)
    assert [round(_parameters(shape) / 1e6) for shape in (paper, small)] == [2_433, 69]
    for shape in (paper, small):
        assert shape.hidden == shape.mlp == shape.query_heads * shape.head_size
        assert shape.query_heads == 5 * shape.kv_heads
        assert shape.vocabulary == 60_416


def _parameters(shape: Shape) -> int:
    """Those of the layers' matrices."""
    heads = 2 * (shape.query_heads + shape.kv_heads) * shape.head_size
    return shape.layers * shape.hidden * (heads + 3 * shape.mlp)
