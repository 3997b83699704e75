"""`memory3 train`: run a recipe, in as many processes as there are processors, or on one GPU."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from ...store.errors import InvalidArgument
from .recipes import RECIPES
from .trainer import Recipe, Trainer


def train(
    preset: str,
    out: Path,
    text: Path | None,
    minutes: float | None,
    processes: int,
    device: str,
    start: Path | None = None,
    first_stage: str | None = None,
) -> None:
    """Train a preset's model into `out`, or go on from the checkpoint there.

    Args:
        text: folder with `text/*.txt` and `squad/*.json`, natural text to mix in; None trains on worlds alone.
        minutes: whole length, shared out over the stages as in the recipe; None keeps the recipe's own.
        start: folder of a model to go on from, or None for fresh weights.
        first_stage: name of the recipe's stage to begin with; None begins with the first.
        processes: CPU processes that share each step (1 on a GPU).

    Raises:
        InvalidArgument: the recipe has no such stage.
    """
    recipe = RECIPES[preset]
    if first_stage is not None:
        names = [stage.name for stage in recipe.stages]
        if first_stage not in names:
            raise InvalidArgument(f"recipe {preset!r} has no stage {first_stage!r}; its stages are {', '.join(names)}")
        recipe = replace(recipe, stages=recipe.stages[names.index(first_stage) :])
    if minutes is not None:
        factor = minutes / sum(stage.minutes for stage in recipe.stages)
        recipe = replace(recipe, stages=tuple(replace(s, minutes=s.minutes * factor) for s in recipe.stages))
    out.mkdir(parents=True, exist_ok=True)
    if processes == 1:
        _work(0, 1, recipe, out, text, device, start)
    else:
        spawn(_work, (processes, recipe, out, text, device, start), nprocs=processes)


def _work(
    rank: int, processes: int, recipe: Recipe, out: Path, text: Path | None, device: str, start: Path | None
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if device == "cpu":
        # One thread a process: two OpenMP threads wait for each other whenever anything else runs.
        torch.set_num_threads(1)
    if processes > 1:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29517")
        dist.init_process_group("gloo", rank=rank, world_size=processes)
    try:
        Trainer(recipe, out, text, device, start).run()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
