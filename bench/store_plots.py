"""The plots of `bench/store.py`, from its file of results. Needs matplotlib, of the extra `bench`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memory3.bench.store_report import OURS, Results, title_of, with_parts


def draw(results: Results, folder: Path) -> list[Path]:
    """Plots as SVG: recall in process and over the network by size, and durable upserts of the largest run."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text as text: a third of the size
    matplotlib.rcParams["svg.hashsalt"] = "memory3"  # the same figures make the same file
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    runs = sorted(results["runs"].values(), key=lambda run: run["size"])
    drawn = []
    for part, title in (("recall", "in process"), ("network", "from another process")):
        figure, axes = pyplot.subplots(figsize=(7, 4))
        rows = [(title_of(name, peer), peer[part]["p50_ms"]) for name, peer in with_parts(runs[-1]["peers"], part)]
        _bars(axes, rows, f"p50 ms of recalling 5 with key-values, {title}, {runs[-1]['size']:,} items")
        drawn.append(_saved(figure, folder / f"store-{part}.svg"))
        pyplot.close(figure)
    if len(runs) > 1:
        figure, axes = pyplot.subplots(figsize=(7, 4))
        for name in dict.fromkeys(name for run in runs for name in run["peers"]):
            points = [
                (run["size"], run["peers"][name]["recall"]["p50_ms"])
                for run in runs
                if "recall" in run["peers"].get(name, {})
            ]
            axes.plot(*zip(*points, strict=True), marker="o", linewidth=3 if name == OURS else 1, label=name)
        axes.set(xscale="log", yscale="log", xlabel="items", ylabel="p50 ms, in process")
        axes.legend(fontsize=7)
        drawn.append(_saved(figure, folder / "store-growth.svg"))
        pyplot.close(figure)
    figure, axes = pyplot.subplots(figsize=(7, 4))
    rows = [
        (title_of(name, peer), peer["upserts"]["batch_per_s"])
        for name, peer in with_parts(runs[-1]["peers"], "upserts")
    ]
    _bars(axes, rows, f"durable upserts/s in batches of 64, {runs[-1]['size']:,} items")
    drawn.append(_saved(figure, folder / "store-upserts.svg"))
    pyplot.close(figure)
    return drawn


def _bars(axes: Any, rows: Sequence[tuple[str, float]], label: str) -> None:
    ordered = sorted(rows, key=lambda row: row[1], reverse=True)
    colours = ["tab:orange" if title.startswith("Memory3") else "tab:blue" for title, _ in ordered]
    bars = axes.barh([title for title, _ in ordered], [value for _, value in ordered], color=colours)
    axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=8)
    axes.set(xscale="log", xlabel=label)


def _saved(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    return path
