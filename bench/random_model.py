"""A checkpoint with random weights: the arithmetic and the bytes of a model that nobody has trained here.

    python bench/random_model.py --shape paper --out FOLDER

`paper` is Memory3-2B (2.4 billion parameters without embeddings, 5.6 GB), `small` has its proportions and its
vocabulary at 70 million. Weights are bfloat16, each matrix scaled so that its results are about as large as what goes
in. The packaged model's tokenizer stands beside them.

That tokenizer knows fewer tokens than the vocabulary has. So that every token generated has a text, the rows of the
output layer come in pairs, one the negative of the other, for the tokens that are whole characters; all others are 0.
One of a pair is then above 0, and no token without a text can be the likeliest. The output layer costs what it would.

Key-values are stored as int8, because the paper's codes need codebooks trained on a model's key-values. `memory3
train-codec` makes some for this model, which cost what those of a trained one do.
"""

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from memory3.model.layout import CONFIG_KEY, MemoryLayout
from memory3.model.loading import load_tokenizer
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 11


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's shape; the first half of its layers are memory layers."""

    layers: int
    query_heads: int
    kv_heads: int
    head_size: int
    hidden: int
    mlp: int
    vocabulary: int
    positions: int = 2_048


SHAPES = {
    "paper": Shape(44, 40, 8, 80, 3_200, 3_200, 60_416),
    "small": Shape(20, 10, 2, 80, 800, 800, 60_416),
}


def write_model(shape: Shape, folder: Path, seed: int = SEED) -> int:
    """Write the checkpoint; returns its number of parameters. The same seed gives the same weights."""
    tokenizer = load_tokenizer(None)
    with torch.device("meta"):
        model = LlamaForCausalLM(_config(shape, tokenizer))
    # Transformers wraps `to` in a way that type checkers cannot follow.
    nn.Module.to(model, torch.bfloat16).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.fill_(1.0)
            else:
                scale = 1.0 if "embed_tokens" in name else weight.shape[1] ** -0.5
                weight.normal_(std=scale, generator=generator)
        _pair(model.lm_head.weight, spoken(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def spoken(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The tokens that are whole characters, such as can be seen."""
    texts = {token: str(tokenizer.decode([token], skip_special_tokens=True)) for token in range(len(tokenizer))}
    return [token for token, text in texts.items() if text.strip() and "\ufffd" not in text and text.isprintable()]


def _pair(rows: Tensor, tokens: list[int]) -> None:
    """Let each second of the tokens' rows be the negative of the one before, and all rows of no pair 0."""
    first, second = tokens[0 : len(tokens) // 2 * 2 : 2], tokens[1::2]
    kept = rows[first].clone()
    rows.zero_()
    rows[first], rows[second] = kept, -kept


def _config(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    layout = MemoryLayout(layers=tuple(range(shape.layers // 2)), kept_tokens=8, rule="attention_sum", stored="int8")
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        max_position_embeddings=shape.positions,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    setattr(config, CONFIG_KEY, asdict(layout))
    return config


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--seed", type=int, default=SEED, help=f"[{SEED}]")
    arguments = parser.parse_args()
    parameters = write_model(SHAPES[arguments.shape], arguments.out, arguments.seed)
    print(f"{arguments.out}: {parameters / 1e6:,.0f} million parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
