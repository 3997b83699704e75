"""`memory3 train-codec`: codebooks for `rq14`, trained on the keys and values that a model itself writes.

Dimensions: `L` memory layers, `Y` tables (1 or L), `N` vectors, `D` head size.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from ...store.errors import InvalidArgument
from ..codebooks import Codebooks, Residual, stage_bits
from ..language_model import LanguageModel
from ..layout import CONFIG_KEY, TRAINED
from ..residual import comparisons, train

REFERENCES = 2_000
"""References written, if the texts have so many."""
VECTORS_OF_AN_ENTRY = 16
"""Vectors sampled for each entry of the largest stage."""
HELD_OUT = 10
"""One reference of so many is kept from training, to measure the error on."""
HELD_OUT_VECTORS = 4_096
_TOGETHER = 16

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Samples:
    """Keys and values that a model wrote of so many `references`.

    `trained` (Y, 2, N, D) float32 are for each table, `held_out` (L, 2, N, D) float32 of each memory layer.
    """

    trained: Tensor
    held_out: Tensor
    references: int


@dataclass(frozen=True, slots=True)
class Errors:
    """Squared error over squared length, of keys and of values."""

    keys: float
    values: float


def sample(model: LanguageModel, texts: Sequence[str], seed: int, progress: Progress, *, each_layer: bool) -> Samples:
    """Write references drawn from the texts and sample their keys and values.

    Args:
        each_layer: sample for a table of each memory layer, in place of one for all.
        progress: told of references written and to be written.

    Raises:
        InvalidArgument: the texts are too few for the codebooks of this model.
    """
    references = [reference for text in texts for reference in model.split(text) if reference.strip()]
    chosen = Random(seed).sample(references, min(REFERENCES, len(references)))
    held_out = len(chosen) // HELD_OUT
    form = model.checkpoint.form
    entries, layers = 1 << max(stage_bits(form.head_size)), form.shape[0]
    wanted = VECTORS_OF_AN_ENTRY * entries // (1 if each_layer else layers)
    generator = torch.Generator().manual_seed(seed)
    drawn: list[Tensor] = []
    for start in range(0, len(chosen), _TOGETHER):
        for value in model.write(chosen[start : start + _TOGETHER]):
            key_values, tokens = form.decode(value)
            vectors = key_values[..., :tokens, :].float().flatten(2, 3)
            number = HELD_OUT_VECTORS // held_out if len(drawn) < held_out else -(-wanted // (len(chosen) - held_out))
            drawn.append(vectors[:, :, torch.randperm(vectors.shape[2], generator=generator)[: max(1, number)]])
        progress(len(drawn), len(chosen))
    found = sum(vectors.shape[2] for vectors in drawn[held_out:]) * (1 if each_layer else layers)
    if not held_out or found < entries:
        raise InvalidArgument(
            f"{len(chosen)} references make {found} vectors to learn {entries} entries from; give more text, best ten "
            f"times as many references as {-(-entries * max(1, len(chosen)) // max(1, found)) + HELD_OUT}"
        )
    trained = torch.cat(drawn[held_out:], dim=2)
    if not each_layer:
        trained = trained.transpose(0, 1).flatten(1, 2)[None]
    device = model.checkpoint.model.device
    return Samples(trained.to(device), torch.cat(drawn[:held_out], dim=2).to(device), len(chosen))


def train_codebooks(samples: Samples, seed: int, progress: Progress) -> Codebooks:
    """Codebooks for vectors like the samples; the same seed gives the same ones.

    Args:
        progress: told of the share done, in thousandths.
    """
    tables, _, _, size = samples.trained.shape
    bits = stage_bits(size)
    generator = torch.Generator().manual_seed(seed)
    done, total = 0, 2 * tables * comparisons(bits)

    def advance(entries: int) -> None:
        nonlocal done
        done += entries
        progress(1000 * done // total, 1000)

    made = [torch.stack([train(vectors, bits, generator, advance) for vectors in kinds]) for kinds in samples.trained]
    return Codebooks(bits, torch.stack(made).half())


def errors(samples: Samples, codebooks: Codebooks) -> Errors:
    """What the codebooks lose of vectors that they were not trained on."""
    codec = Residual(codebooks)
    vectors = samples.held_out[:, :, None]
    decoded = codec.decode([plane[None] for plane in codec.encode(vectors)])[0]
    keys, values = ((decoded - vectors).square().sum((0, 2, 3, 4)) / vectors.square().sum((0, 2, 3, 4))).tolist()
    return Errors(keys, values)


def save(model: LanguageModel, folder: Path, codebooks: Codebooks, out: Path) -> None:
    """Copy a model's folder to `out`, with the codebooks, and with its layout saying that they are used."""
    shutil.copytree(folder, out, dirs_exist_ok=True)
    codebooks.save(out)
    path = out / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config[CONFIG_KEY] = asdict(replace(model.checkpoint.layout, stored=TRAINED))
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
