"""Codebooks: the bits for a head size, their file, their place in the fingerprint, and a model that uses them.

Dimensions: `E` entries of a table, `D` head size.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from memory3.model.codebooks import FILE, Codebooks, stage_bits
from memory3.model.language_model import LanguageModel
from memory3.model.layout import CONFIG_KEY, MemoryLayout
from memory3.store.errors import InvalidArgument
from safetensors.torch import save_file

from .builders import CORPUS

Saved = Callable[[str], Path]
CPU = torch.device("cpu")


def codebooks(size: int = 16, layers: int = 1, seed: int = 0) -> Codebooks:
    bits = stage_bits(size)
    generator = torch.Generator().manual_seed(seed)
    return Codebooks(bits, torch.randn(layers, 2, sum(1 << width for width in bits), size, generator=generator).half())


@pytest.fixture
def coded(saved: Saved, tmp_path: Path) -> Path:
    """A folder of a model that stores rq14, without codebooks."""
    folder = tmp_path / "coded"
    shutil.copytree(saved("llama"), folder)
    path = folder / "config.json"
    layout = {"layers": [0, 1], "stored": "rq14"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {CONFIG_KEY: layout}))
    return folder


def test_the_papers_vector_takes_the_papers_14_bytes() -> None:
    assert stage_bits(80) == (14, 14, *[10] * 8)


@pytest.mark.parametrize("size", [32, 48, 64, 80, 96, 112, 128, 192, 256])
def test_other_heads_take_about_the_same_bits_a_dimension(size: int) -> None:
    assert 1.2 <= sum(stage_bits(size)) / size <= 1.55
    assert stage_bits(size)[:2] == (14, 14)


@pytest.mark.parametrize("size", range(1, 25))
def test_small_heads_have_two_short_stages(size: int) -> None:
    bits = stage_bits(size)
    assert len(bits) == 2 and 1 <= bits[0] == bits[1] <= 14
    assert size < 4 or 1.1 <= sum(bits) / size <= 1.6


def test_they_are_saved_and_loaded(tmp_path: Path) -> None:
    made = codebooks(layers=3)
    made.save(tmp_path)
    loaded = Codebooks.load(tmp_path / FILE, CPU)
    assert loaded.bits == made.bits and torch.equal(loaded.tables, made.tables) and loaded.layers == 3
    assert loaded.digest == made.digest


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: {"tables": c.tables}, "holds no codebooks"),
        (lambda c: {"bits": torch.tensor(c.bits)}, "holds no codebooks"),
        (lambda c: {"bits": torch.tensor([11, 10]), "tables": c.tables}, "which do not fit"),
        (lambda c: {"bits": torch.tensor([60, -1]), "tables": c.tables}, "which do not fit"),
        (lambda c: {"bits": torch.tensor([float("nan")]), "tables": c.tables}, "which do not fit"),
        (lambda c: {"bits": torch.tensor([1 << 63], dtype=torch.uint64), "tables": c.tables}, "which do not fit"),
        (lambda c: {"bits": torch.tensor([], dtype=torch.long), "tables": c.tables}, "which do not fit"),
        (lambda c: {"bits": torch.tensor(c.bits), "tables": c.tables[0]}, "which do not fit"),
        (lambda c: {"bits": torch.tensor(c.bits), "tables": c.tables.float()}, "which do not fit"),
        (lambda c: {"bits": torch.tensor(c.bits), "tables": c.tables / 0}, "not finite"),
    ],
    ids=[
        "no bits",
        "no tables",
        "other bits",
        "wild bits",
        "no number",
        "endless bits",
        "empty bits",
        "one table",
        "float32",
        "infinite",
    ],
)
def test_damaged_ones_are_refused(
    damage: Callable[[Codebooks], dict[str, torch.Tensor]], message: str, tmp_path: Path
) -> None:
    save_file({name: tensor.contiguous() for name, tensor in damage(codebooks()).items()}, tmp_path / FILE)
    with pytest.raises(InvalidArgument, match=rf"{message}.*memory3 train-codec"):
        Codebooks.load(tmp_path / FILE, CPU)


def test_a_file_of_another_kind_is_refused(coded: Path) -> None:
    (coded / FILE).write_bytes(b"nonsense")
    with pytest.raises(InvalidArgument, match=r"codec.safetensors holds no codebooks"):
        LanguageModel.load(str(coded))


def test_a_model_without_them_is_refused(coded: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"no codebooks stand beside.*memory3 train-codec"):
        LanguageModel.load(str(coded))


def test_those_of_another_model_are_refused(coded: Path) -> None:
    codebooks(size=8).save(coded)
    with pytest.raises(InvalidArgument, match=r"heads of 8, this model has 2 and 16"):
        LanguageModel.load(str(coded))
    codebooks(layers=3).save(coded)
    with pytest.raises(InvalidArgument, match=r"for 3 memory layers.*this model has 2"):
        LanguageModel.load(str(coded))


def test_the_fingerprint_changes_with_them(coded: Path, saved: Saved) -> None:
    fingerprints = {LanguageModel.load(str(saved("llama"))).fingerprint}
    for made in (codebooks(), codebooks(seed=1), codebooks(layers=2)):
        made.save(coded)
        fingerprints.add(LanguageModel.load(str(coded)).fingerprint)
    assert len(fingerprints) == 4
    assert LanguageModel.load(str(coded)).fingerprint in fingerprints


def test_codebooks_that_are_not_used_change_nothing(coded: Path, saved: Saved) -> None:
    codebooks().save(coded)
    layout = MemoryLayout((0, 1))
    plain = LanguageModel.load(str(saved("llama")), layout=layout)
    assert LanguageModel.load(str(coded), layout=layout).fingerprint == plain.fingerprint
    assert LanguageModel.load(str(coded), stored="bfloat16").fingerprint == plain.fingerprint


@pytest.mark.parametrize("layers", [1, 2])
def test_a_model_writes_and_reads_with_them(layers: int, coded: Path, saved: Saved) -> None:
    """Each key and value is decoded to a sum of entries of its own layer's table, nearer than any drawn one."""
    made = codebooks(layers=layers)
    made.save(coded)
    model = LanguageModel.load(str(coded))
    exact = LanguageModel.load(str(saved("llama")), stored="float32")
    texts = [CORPUS[:80], CORPUS[80:200]]
    values = model.write(texts)
    assert [len(value) for value in values] == [model.key_value_bytes] * 2
    assert model.key_value_bytes == 4 + 2 * 2 * 2 * 8 * 3
    for value, wanted in zip(values, exact.write(texts), strict=True):
        (decoded, tokens), (vectors, _) = model.checkpoint.form.decode(value), exact.checkpoint.form.decode(wanted)
        for layer in range(2):
            for kind in range(2):
                table = made.tables[min(layer, layers - 1), kind].float()
                found = (decoded[layer, kind, :, :tokens] - vectors[layer, kind, :, :tokens]).norm(dim=-1)
                drawn = table[torch.randint(2048, (64,), generator=torch.Generator().manual_seed(0))]
                first = torch.cdist(vectors[layer, kind, :, :tokens].reshape(-1, 16), drawn).amin(1).view_as(found)
                assert (found <= first).all()
    assert all(
        memory.key.isfinite().all() for memory in model.checkpoint.form.layers(values, CPU, torch.float32).values()
    )


def test_another_stored_form_of_a_layout_can_be_asked_for(saved: Saved) -> None:
    model = LanguageModel.load(str(saved("llama")), stored="int4")
    assert model.checkpoint.layout == replace(LanguageModel.load(str(saved("llama"))).checkpoint.layout, stored="int4")
    with pytest.raises(InvalidArgument, match="not 'int3'"):
        LanguageModel.load(str(saved("llama")), stored="int3")
