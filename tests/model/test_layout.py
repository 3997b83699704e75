"""Layouts are checked, and a fingerprint changes with whatever changes key-values, and with nothing else."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from memory3.model.language_model import LanguageModel
from memory3.model.layout import CONFIG_KEY, MemoryLayout
from memory3.store.errors import InvalidArgument

from .builders import CORPUS, LLAMA3, YARN, plain, save, tokenizer_of
from .conftest import Load

Saved = Callable[[str], Path]
LAYOUT = MemoryLayout((0, 1), 8, "attention_sum")


def configured(folder: Path, copy: Path, **settings: Any) -> Path:
    """A copy of a saved model with other settings in config.json."""
    shutil.copytree(folder, copy)
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return copy


def fingerprint(folder: Path, layout: MemoryLayout | None = LAYOUT) -> str:
    return LanguageModel.load(str(folder), layout=layout).fingerprint


def test_the_same_model_has_the_same_fingerprint_wherever_it_lies(saved: Saved, tmp_path: Path) -> None:
    folder = saved("llama")
    first = fingerprint(folder)
    assert len(first) == 32 and int(first, 16) >= 0
    assert fingerprint(folder) == first
    assert fingerprint(configured(folder, tmp_path / "elsewhere")) == first
    plain(folder).save_pretrained(tmp_path / "again")
    tokenizer_of().save_pretrained(tmp_path / "again")
    assert fingerprint(tmp_path / "again") == first


def test_settings_that_change_no_key_values_leave_it(saved: Saved, tmp_path: Path) -> None:
    other = configured(
        saved("llama"), tmp_path / "other", transformers_version="5.99.0", use_cache=False, eos_token_id=5
    )
    assert fingerprint(other) == fingerprint(saved("llama"))


def test_use_does_not_change_it(saved: Saved) -> None:
    """Padding and truncation are states of the tokenizer, set by whoever called it last."""
    model = LanguageModel.load(str(saved("llama")), layout=LAYOUT)
    model.checkpoint.tokenizer(["a bee", "a"], padding=True, truncation=True, max_length=7)
    assert model.checkpoint.tokenizer.backend_tokenizer.padding is not None
    assert model.fingerprint == fingerprint(saved("llama"))


@pytest.mark.parametrize(
    "changed",
    [
        {"layers": (0,)},
        {"layers": (0, 2)},
        {"kept_tokens": 9},
        {"rule": "key_value_norm"},
        {"prefix": "Text:"},
        {"stored": "float16"},
    ],
    ids=str,
)
def test_it_changes_with_the_layout(changed: dict[str, Any], saved: Saved) -> None:
    assert fingerprint(saved("llama"), replace(LAYOUT, **changed)) != fingerprint(saved("llama"))


def test_it_does_not_change_with_how_key_values_are_read(saved: Saved) -> None:
    """Key-values written before a recall weight was set, or changed, can still be read."""
    assert fingerprint(saved("llama"), replace(LAYOUT, recall_weight=30.0)) == fingerprint(saved("llama"))


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}},
        {"rope_parameters": YARN},
        {"rope_parameters": LLAMA3},
        {"rope_parameters": {**LLAMA3, "factor": 4.0}},
        {"rms_norm_eps": 1e-3},
        {"hidden_act": "gelu"},
        # The same weights cut into other heads.
        {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8},
    ],
    ids=str,
)
def test_it_changes_with_the_arithmetic(settings: dict[str, Any], saved: Saved, tmp_path: Path) -> None:
    """Other positions, norms or heads make other key-values of the same weights."""
    assert fingerprint(configured(saved("llama"), tmp_path / "other", **settings)) != fingerprint(saved("llama"))


def test_it_changes_with_weights(saved: Saved, tmp_path: Path) -> None:
    """Also when one number of one matrix is another."""
    assert fingerprint(save("llama", tmp_path / "seed", seed=1)) != fingerprint(saved("llama"))
    model = plain(saved("llama"))
    with torch.no_grad():
        model.get_parameter("model.layers.0.mlp.up_proj.weight")[3, 4] += 1e-3
    model.save_pretrained(tmp_path / "one")
    tokenizer_of().save_pretrained(tmp_path / "one")
    assert fingerprint(tmp_path / "one") != fingerprint(saved("llama"))


def test_it_changes_with_the_tokenizer(saved: Saved, tmp_path: Path) -> None:
    """With how it spells, and with the token that begins a sequence."""
    folder = configured(saved("llama"), tmp_path / "spelling")
    fast = tokenizer_of()
    state = json.loads(fast.backend_tokenizer.to_str())
    state["model"]["merges"] = state["model"]["merges"][:-1]
    (folder / "tokenizer.json").write_text(json.dumps(state))
    assert fingerprint(folder) != fingerprint(saved("llama"))
    other = configured(saved("llama"), tmp_path / "bos")
    fast.bos_token = "</s>"
    fast.save_pretrained(other)
    assert fingerprint(other) != fingerprint(saved("llama"))


def test_a_checkpoint_names_its_layout(saved: Saved, tmp_path: Path) -> None:
    named = {"layers": [1, 2], "kept_tokens": 5, "rule": "attention_max", "prefix": "Text:", "stored": "float16"}
    folder = configured(saved("llama"), tmp_path / "named", **{CONFIG_KEY: named | {"recall_weight": 2.5}})
    model = LanguageModel.load(str(folder))
    assert model.checkpoint.layout == MemoryLayout((1, 2), 5, "attention_max", "Text:", "float16", 2.5)
    assert model.fingerprint == fingerprint(saved("llama"), model.checkpoint.layout)
    (value,) = model.write([CORPUS[:80]])
    assert len(value) == model.key_value_bytes == 4 + 2 * 2 * 2 * 5 * 16 * 2


def test_without_one_the_layout_is_the_papers(load: Load) -> None:
    assert load("llama").checkpoint.layout == MemoryLayout((0, 1), 8, "attention_sum", "Reference:", "bfloat16")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"layers": [0, 4]}, "memory layer 4 does not exist in a model of 4 layers"),
        ({"layers": [-1, 0]}, "memory layer -1 does not exist"),
        ({"layers": []}, "one or more layers"),
        ({"layers": [1, 0]}, "rising order"),
        ({"layers": [1, 1]}, "rising order"),
        ({"kept_tokens": 4}, "one or more layers"),
        ({"layers": [0], "kept_tokens": 0}, "keep 1 to 128"),
        ({"layers": [0], "kept_tokens": 129}, "keep 1 to 128"),
        ({"layers": [0], "rule": "best"}, "no selection rule 'best'; choose one of attention_sum"),
        ({"layers": [0], "stored": "int3"}, "bfloat16, float16, float32, int8, int4, rq14, not 'int3'"),
        ({"layers": [0], "recall_weight": -1}, "recall_weight is -1; give 0 or more"),
        ({"layers": [0], "tokens": 8}, "unknown settings tokens"),
    ],
)
def test_a_bad_layout_is_refused(named: dict[str, Any], message: str, saved: Saved, tmp_path: Path) -> None:
    folder = configured(saved("llama"), tmp_path / "bad", **{CONFIG_KEY: named})
    with pytest.raises(InvalidArgument, match=message):
        LanguageModel.load(str(folder))


def test_a_layout_given_for_a_smaller_model_is_refused(saved: Saved) -> None:
    with pytest.raises(InvalidArgument, match="memory layer 7 does not exist in a model of 4 layers"):
        LanguageModel.load(str(saved("llama")), layout=MemoryLayout((0, 7)))
