"""`memory3 train-codec`: from texts to a model that stores rq14, and one clear line for what it cannot use."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from memory3.cluster.embedded import Embedded
from memory3.model.codebooks import FILE
from memory3.model.language_model import LanguageModel
from memory3.store.types import Document

TEXTS = Path(__file__).resolve().parents[2] / "examples" / "harbour"


def train_codec(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "memory3.cli", "train-codec", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEMORY3_")}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran


@pytest.fixture(scope="module")
def trained(random_model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A copy of the random model with codebooks, and what the command told of it."""
    folder = tmp_path_factory.mktemp("codec") / "model"
    told = train_codec("--model", random_model, "--text", TEXTS, "--out", folder, "--json")
    return folder, json.loads(told.stdout)


def test_it_makes_a_model_of_other_bytes(trained: tuple[Path, dict[str, Any]], random_model: str) -> None:
    folder, told = trained
    plain, coded = LanguageModel.load(random_model), LanguageModel.load(str(folder))
    assert coded.checkpoint.layout.stored == "rq14" and coded.fingerprint != plain.fingerprint
    assert {name: told[name] for name in ("model", "fingerprint", "bytes")} == {
        "model": str(folder),
        "fingerprint": coded.fingerprint,
        "bytes": coded.key_value_bytes,
    }
    # 22 bits for 16 dimensions, in 3 bytes where bfloat16 takes 32.
    assert (coded.key_value_bytes - 4) * 32 == (plain.key_value_bytes - 4) * 3
    assert coded.checkpoint.layout.layers == plain.checkpoint.layout.layers
    for name, weight in plain.checkpoint.model.state_dict().items():
        assert torch.equal(coded.checkpoint.model.state_dict()[name], weight)


def test_the_error_it_tells_is_not_that_of_what_it_was_trained_on(
    trained: tuple[Path, dict[str, Any]], random_model: str
) -> None:
    """So few texts are learnt by heart: read again, they lose far less than references that were held out."""
    folder, told = trained
    exact, coded = LanguageModel.load(random_model, stored="float32"), LanguageModel.load(str(folder))
    texts = [text for path in sorted(TEXTS.iterdir())[:20] for text in exact.split(path.read_text())]
    lost, whole = torch.zeros(2), torch.zeros(2)
    for wanted, made in zip(exact.write(texts), coded.write(texts), strict=True):
        (vectors, tokens), (decoded, _) = exact.checkpoint.form.decode(wanted), coded.checkpoint.form.decode(made)
        lost += (decoded - vectors)[..., :tokens, :].square().sum((0, 2, 3, 4))
        whole += vectors.square().sum((0, 2, 3, 4))
    keys, values = (lost / whole).tolist()
    assert 0 < keys < 0.7 * told["error_keys"] and 0 < values < 0.7 * told["error_values"]
    assert told["error_keys"] < 0.2 and told["error_values"] < 0.2


def test_memories_are_stored_and_read_by_it(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, told = trained
    with Embedded(tmp_path, model=str(folder)) as memory:
        memory.upsert(Document("mira", "Mira Sandoval keeps bees on the roof of the old post office."))
        memory.write(["mira"])
        (hit,) = memory.recall("Who keeps bees?", 1)
        (value,) = memory.fetch_key_values(told["fingerprint"], [hit.seq])
        assert value is not None and len(value) == told["bytes"]
        answer = memory.ask("Who keeps bees?", max_tokens=4).result()
        assert [read.key for read in answer.memories] == ["mira"]


def test_the_same_seed_gives_the_same_codebooks(
    trained: tuple[Path, dict[str, Any]], random_model: str, tmp_path: Path
) -> None:
    folder, told = trained
    told_again = train_codec("--model", random_model, "--text", TEXTS, "--out", tmp_path / "same", "--json").stdout
    assert json.loads(told_again)["fingerprint"] == told["fingerprint"]
    assert (tmp_path / "same" / FILE).read_bytes() == (folder / FILE).read_bytes()


def test_what_it_cannot_use_is_told_in_one_line(random_model: str, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("Mira keeps bees.")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    refused = [
        (["--text", tmp_path / "few.txt"], "give more text"),
        (["--text", tmp_path / "bad.txt"], "bad.txt: not UTF-8"),
        (["--text", tmp_path / "nowhere"], "nowhere: no such file or folder"),
        (["--text", tmp_path / "empty"], "there is no text in"),
    ]
    for arguments, message in refused:
        ran = train_codec("--model", random_model, "--out", out, *arguments, code=2)
        assert message in ran.stderr and len(ran.stderr.strip().splitlines()) == 1
    taken = train_codec("--model", random_model, "--out", tmp_path, "--text", tmp_path / "few.txt", code=2)
    assert "is there already; give a new folder" in taken.stderr
    missing = train_codec("--model", tmp_path / "empty", "--out", out, "--text", tmp_path / "few.txt", code=2)
    assert "holds no decoder" in missing.stderr
    assert not out.exists()
