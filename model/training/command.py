"""`memory3 train`: run a recipe, in as many processes as there are processors, or on one GPU."""

import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessException, SpawnContext, spawn

from ...store.errors import InvalidArgument, Memory3Error
from .recipes import RECIPES
from .trainer import Recipe, Trainer

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.sharedctypes import Synchronized

# It warns of every worker that it ends when another one failed; what failed is said once, by us.
logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)


def train(
    preset: str,
    out: Path,
    text: Path | None,
    minutes: float | None,
    processes: int,
    device: str,
    start: Path | None = None,
    first_stage: str | None = None,
    progress: Callable[[int, int], None] = lambda seconds, of: None,
) -> int:
    """Train a preset's model into `out`, or go on from the checkpoint there.

    SIGINT and SIGTERM stop all processes after the step under way, with a checkpoint.

    Args:
        text: folder with `text/*.txt` and `squad/*.json`, natural text to mix in; None trains on worlds alone.
        minutes: whole length, shared out over the stages as in the recipe; None keeps the recipe's own.
        start: folder of a model to go on from, or None for fresh weights.
        first_stage: name of the recipe's stage to begin with; None begins with the first.
        processes: CPU processes that share each step (1 on a GPU).
        progress: told every second how many of how many seconds are done.

    Returns:
        The number of the signal that stopped it, 0 when it ran to its end.

    Raises:
        InvalidArgument: the recipe has no such stage, or `text` or `start` is not what it has to be.
    """
    recipe = recipe_of(preset, minutes, first_stage)
    out.mkdir(parents=True, exist_ok=True)
    # One process of its own too, so that there is one way to stop it and to hear from it.
    done, refused = get_context("spawn").Value("d", 0.0), get_context("spawn").SimpleQueue()
    arguments = (processes, _free_port(), done, refused, recipe, out, text, device, start)
    context = spawn(_work, arguments, nprocs=processes, join=False)
    assert context is not None
    with _stopped_by(lambda: [process.terminate() for process in context.processes]) as stop:
        while not _ended(context, stop, refused):
            progress(round(60 * done.value), round(60 * sum(stage.minutes for stage in recipe.stages)))
    return stop.number


def recipe_of(preset: str, minutes: float | None, first_stage: str | None) -> Recipe:
    """The recipe of a name, begun with a later stage, its stages made longer or shorter; None leaves it as it is.

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
    return recipe


def _ended(context: SpawnContext, stop: "_Stop", refused: "SimpleQueue[str]") -> bool:
    """Wait a second for the workers; one that a signal ended before it could listen to it has ended as well."""
    try:
        ended: bool = context.join(timeout=1)
        return ended
    except ProcessException:
        if not refused.empty():
            raise InvalidArgument(refused.get()) from None
        if not stop.number:
            raise
        return all(not process.is_alive() for process in context.processes)


class _Stop:
    """The signal that came, 0 as long as none did."""

    number = 0


@contextmanager
def _stopped_by(act: Callable[[], object]) -> Iterator[_Stop]:
    """Call `act` instead of ending when SIGINT or SIGTERM comes."""
    stop = _Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.number = number
        act()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _work(
    rank: int,
    processes: int,
    port: int,
    done: "Synchronized[float]",
    refused: "SimpleQueue[str]",
    recipe: Recipe,
    out: Path,
    text: Path | None,
    device: str,
    start: Path | None,
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if device == "cpu":
        # One thread a process: two OpenMP threads wait for each other whenever anything else runs.
        torch.set_num_threads(1)
    if processes > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
    try:
        trainer = Trainer(recipe, out, text, device, start, lambda minutes: setattr(done, "value", minutes))
        with _stopped_by(trainer.stop):
            trainer.run()
    except Memory3Error as error:
        # To the other process an exception is the text of its traceback.
        refused.put(str(error))
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
