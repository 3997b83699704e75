"""Exact match and bytes of a memory by selection rule and number of kept tokens, for one trained model.

    python bench/selection.py [--model FOLDER] [--questions 512]

Every question on entities never trained on reads its own reference and four others; an answer counts when the model
would generate it token for token (greedy). The model is trained with one rule and number; the other rows show what it
would lose if its memories were kept otherwise, nothing trained again.
"""

import argparse
from dataclasses import replace

import torch
from memory3.bench.machine import machine_line
from memory3.model.key_values import KeyValueForm
from memory3.model.language_model import LanguageModel
from memory3.model.selection import RULES
from memory3.model.training.batches import Encoder, MemoryBatch, Sampler
from memory3.model.training.reading import exact, memory_logits
from memory3.model.training.worlds import World

KEPT = (4, 8, 16, 32, 128)
READS = 5


@torch.inference_mode()
def exact_match(model: LanguageModel, batches: list[MemoryBatch], rule: str, kept: int) -> float:
    """Share of the answers that would be generated exactly."""
    layout = replace(model.checkpoint.layout, rule=rule, kept_tokens=kept)
    hits: list[bool] = []
    for batch in batches:
        logits, _, _ = memory_logits(model.checkpoint.model, batch, layout)
        hits += exact(logits, batch.rows)
    return sum(hits) / len(hits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="folder or name; the packaged model without it")
    parser.add_argument("--questions", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = LanguageModel.load(options.model)
    form, layout = model.checkpoint.form, model.checkpoint.layout
    sampler = Sampler(Encoder(model.checkpoint.tokenizer), World(2026, "test"), 2026)
    batches = [sampler.memory_batch(32, 64, READS, unknown=0.0) for _ in range(-(-options.questions // 64))]
    print(machine_line())
    print(f"{model.name}, trained with {layout.rule}, {layout.kept_tokens} kept; {64 * len(batches)} questions\n")
    print("| rule | " + " | ".join(f"{kept} kept" for kept in KEPT) + " |")
    print("|---" * (len(KEPT) + 1) + "|")
    stored = [replace(layout, kept_tokens=kept, stored="bfloat16") for kept in KEPT]
    sizes = [KeyValueForm(of_kept, form.kv_heads, form.head_size).bytes for of_kept in stored]
    print("| bytes of a memory in bfloat16 | " + " | ".join(f"{size:,}" for size in sizes) + " |")
    for rule in RULES:
        row = [f"{exact_match(model, batches, rule, kept):.3f}" for kept in KEPT]
        print(f"| {rule} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
