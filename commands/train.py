"""`memory3 train`: train a model of our own."""

import os
from pathlib import Path
from typing import Annotated

import typer

from .connection import limit_threads
from .options import Json
from .output import counted, notes, print_json, results


def train(
    preset: Annotated[str, typer.Option(help="Recipe: its shape, stages and data.")] = "tiny",
    out: Annotated[Path, typer.Option(help="Folder of log, checkpoint and, at the end, the model.")] = Path(
        "runs/tiny"
    ),
    text: Annotated[
        Path | None,
        typer.Option(
            help="Folder with text/*.txt and squad/*.json, natural text to mix in; without it, generated text alone.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Folder of a model to go on from.", exists=True, file_okay=False, show_default=False),
    ] = None,
    first_stage: Annotated[
        str | None, typer.Option(help="Stage of the recipe to begin with; without it, the first.", show_default=False)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Whole time; without it, the recipe's.", show_default=False)
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="CPU processes that share each step.", show_default="the processors")
    ] = os.cpu_count() or 1,
    device: Annotated[str, typer.Option(help="cpu, or cuda for one GPU.")] = "cpu",
    json: Json = False,
) -> None:
    """Train a model, or go on from the checkpoint in `--out`. Ctrl-C loses nothing, a kill at most two minutes.

    How far it is and how well it answers is told every 50 steps, and kept in log.jsonl in `--out`.
    """
    limit_threads(1)
    from ..model.training.command import train as run
    from ..model.training.recipes import RECIPES

    if preset not in RECIPES:
        raise typer.BadParameter(f"there is no recipe {preset!r}; choose one of {', '.join(RECIPES)}")

    workers = 1 if device != "cpu" else processes
    with counted("seconds of training") as progress:
        stopped_by = run(preset, out, text, minutes, workers, device, start, first_stage, progress)
    if json:
        print_json({"finished": stopped_by == 0, "model": str(out / "model"), "log": str(out / "log.jsonl")})
    elif stopped_by:
        notes.print("stopped; the same command goes on from here")
    else:
        results.print(f"the model is in {out / 'model'}; try it: memory3 eval --model {out / 'model'}")
    if stopped_by:
        raise typer.Exit(128 + stopped_by)
