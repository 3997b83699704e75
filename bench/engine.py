"""The engine: what memory costs it, what it saves over text RAG, what streams see, whether it holds memory.

    python bench/engine.py [--parts memory rag streams] [--rounds 5] [--model FOLDER] [--device cpu] [--out FILE.json]
    python bench/engine.py --parts soak --minutes 60

Texts and questions are of generated worlds, stored and written in a temporary directory, so that recall goes through
the real embedder and the real store. No end token ends an answer: all variants make as many tokens. In each round all
variants run, each round begins with another; told are medians, and ratios within a round.

First it compares the engine's greedy answers with those of the model one request at a time (bench/engine_check.py); it
times nothing and ends with 1 if one differs.

- `memory`: the paper's measure, prompts of 128 tokens (with `<s>`) and 128 generated, at 1, 8 and 32 sequences at a
  time, without memory and with. Each chunk of each sequence reads other references: what recall found for another chunk
  before is replaced by a memory that none has read yet. None is held in RAM, and the slots on the device are those that
  the sequences pin; how many were there all the same is told. Then with vectors made before, so that embedding is left
  out; and with the references of a pass before still on the device. With `--waves 3`, three times as many requests as
  run at a time are there at once, and the others wait: a server under load.
- `rag`: the same questions answered from five memories, and from their five texts in the prompt, by one engine; and by
  Transformers' `generate` with SDPA, from the texts too (bench/engine_generate.py). And the bytes of key-values that a
  request reads of memories and of texts, for this model and by arithmetic for the paper's, whose references have 128
  tokens as those have that `--reference-tokens 128` fills up.
- `streams`: what the callers see who follow their answers, together and one at a time. A text may hold several tokens
  (a character of several, or a special one, which has no text): how many it does on average is told.
- `soak`: callers come and go for `--minutes`, some leave early or are late. Ends with 1 if the resident memory (that no
  file backs) of the last quarter is more than 5 % over that of the second, or anything is left running or pinned.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from memory3.bench.engine_check import Unequal, check
from memory3.bench.engine_parts import memory_part, rag_part
from memory3.bench.engine_report import check_line, memory_lines, rag_lines, soak_lines, streams_lines
from memory3.bench.engine_streams import soak_part, streams_part
from memory3.bench.engine_work import Settings, Work, open_work
from memory3.bench.machine import machine
from memory3.model.layout import REFERENCE_TOKENS

PARTS = ("memory", "rag", "streams", "soak")


def main() -> int:
    arguments = _arguments()
    settings = replace(
        Settings(),
        rounds=arguments.rounds,
        documents=arguments.documents,
        reference_tokens=arguments.reference_tokens,
        concurrency=tuple(arguments.concurrency),
        memory_waves=arguments.waves,
        callers=arguments.callers,
        answer_tokens=arguments.answer_tokens,
    )
    # Now, since a long run may outlive the checkout's commit.
    results: dict[str, Any] = {"machine": machine()}
    print("; ".join(results["machine"].values()), end="\n\n", flush=True)
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as folder,
        open_work(Path(folder) / "data", settings, arguments.model, arguments.device) as work,
    ):
        results["work"] = described(work, settings, arguments.device)
        print("; ".join(f"{name} {value}" for name, value in results["work"].items()), flush=True)
        try:
            for part in arguments.parts:
                print(flush=True)
                for line in run_part(part, work, settings, arguments.minutes, results):
                    print(line, flush=True)
        except Unequal as error:
            print(f"not timed: {error}", file=sys.stderr)
            return 1
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if results.get("soak", {}).get("ok", True) else 1


def run_part(part: str, work: Work, settings: Settings, minutes: float, results: dict[str, Any]) -> Iterator[str]:
    """Measure one part into `results`; yields its report.

    Raises:
        Unequal: the engine's answers are not the model's.
    """
    if part != "soak" and "checked" not in results:
        results["checked"] = check(work, settings)
        yield check_line(results["checked"])
        yield ""
    if part == "memory":
        results[part] = memory_part(work, settings)
        yield from memory_lines(results[part])
    elif part == "rag":
        results[part] = rag_part(work, settings)
        yield from rag_lines(results[part])
    elif part == "streams":
        results[part] = streams_part(work, settings)
        yield from streams_lines(results[part])
    else:
        results[part] = soak_part(work, settings, minutes, lambda line: print(line, flush=True))
        yield from soak_lines(results[part])


def described(work: Work, settings: Settings, device: str) -> dict[str, str]:
    """Model, shapes and store in words."""
    checkpoint = work.model.checkpoint
    config, layout = checkpoint.model.config, checkpoint.layout
    return {
        "model": f"{checkpoint.name} on {device} in {checkpoint.model.dtype}".replace("torch.", ""),
        "layers": f"{config.num_hidden_layers}, {len(layout.layers)} of them memory layers",
        "heads": f"{config.num_attention_heads}, {checkpoint.form.kv_heads} KV heads of {checkpoint.form.head_size}",
        "memories": f"{settings.memories} of {layout.kept_tokens} tokens, {layout.stored}, {checkpoint.form.bytes} B",
        "documents": f"{settings.documents} of {work.reference_tokens:.0f} tokens",
        "prompts": f"of {settings.prompt_tokens} tokens, {settings.tokens} generated",
        "rounds": str(settings.rounds),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:3], help="which [all but soak]")
    parser.add_argument("--rounds", type=int, default=Settings().rounds, help=f"of all variants [{Settings().rounds}]")
    parser.add_argument("--concurrency", type=int, nargs="+", default=Settings().concurrency, help="[1 8 32]")
    parser.add_argument("--waves", type=int, default=1, help="requests of `memory` for each that runs at a time [1]")
    parser.add_argument("--callers", type=int, default=Settings().callers, help="of `rag` and `streams` [16]")
    parser.add_argument("--answer-tokens", type=int, default=Settings().answer_tokens, help="of `rag` [64]")
    parser.add_argument("--documents", type=int, default=Settings().documents, help=f"[{Settings().documents}]")
    parser.add_argument("--reference-tokens", type=int, default=0, help="fill shorter ones up to so many [0]")
    parser.add_argument("--model", help="a folder or a Hugging Face name [the packaged model]")
    parser.add_argument("--device", default="cpu", help="[cpu]")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the soak [60]")
    parser.add_argument("--folder", type=Path, help="where the store is put [temporary]")
    parser.add_argument("--out", type=Path, help="a JSON file for all results")
    arguments = parser.parse_args()
    if not 0 <= arguments.reference_tokens <= REFERENCE_TOKENS:
        parser.error(f"--reference-tokens is {arguments.reference_tokens}, a reference has up to {REFERENCE_TOKENS}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
