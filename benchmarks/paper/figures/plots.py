"""The results of a run as plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.paper.figures.tables import (
    BASELINES,
    GLOBAL,
    IMAGE_MEASURES,
    MEASURES,
    SWEEP,
    Results,
    sweep_rows,
)
from benchmarks.paper.measures import interval

_TITLES = {
    "image": "image similarity (evaluator)",
    "colours": "overlap of colour histograms",
    "outside": "image similarity (EfficientNet-Lite2)",
    "text": "text similarity (evaluator)",
    "scene": "scene left as it is (edges' colours)",
    "background": "the photos' background (edges' colours)",
}
_COLOURS = {
    SWEEP: "#1b6ca8",
    GLOBAL: "#63a6d6",
    "textual inversion": "#d1495b",
    "lora": "#edae49",
    "custom diffusion": "#66a182",
    "dreambooth": "#7b5ea7",
    "superclass": "#777777",
}
_BY_STEPS = "textual inversion"
_ABLATIONS_ACROSS = 6
# Of the plot over training steps.
_STEPS_SHOWN = (20, 40, 80, 160, 320)

mpl.use("Agg")
plt.rcParams.update({"font.size": 9, "axes.grid": True, "grid.alpha": 0.25, "figure.dpi": 110})


def plot_plane(results: Results, file: Path) -> None:
    """Plot figure 5: the similarity plane by each image measure, and what is left of the scene."""
    planes = (*(("text", measure) for measure in IMAGE_MEASURES), ("scene", "image"))
    figure, axes = plt.subplots(1, len(planes), figsize=(17, 4.6))
    for axis, (across, up) in zip(axes, planes, strict=True):
        for name in (SWEEP, GLOBAL, "superclass", *BASELINES):
            if name in results:
                _draw_method(axis, name, results[name], up, across=across)
        axis.set(xlabel=_TITLES[across], ylabel=_TITLES[up])
    axes[0].legend(fontsize=8)
    _save(figure, file)


def plot_ablations(results: Results, file: Path) -> None:
    """Plot Perfusion's sweep and each of its ablations, on the ablation's subjects."""
    names = [name for name in results if name.startswith("perfusion, ")]
    across = min(len(names), _ABLATIONS_ACROSS)
    down = -(-len(names) // across)
    figure, axes = plt.subplots(down, across, figsize=(2.6 * across, 3 * down), sharex=True,
                                sharey=True, squeeze=False)  # fmt: skip
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis, name in zip(axes.flat, names, strict=False):
        subjects = {result["subject"] for result in results[name]}
        ours = [result for result in results[SWEEP] if result["subject"] in subjects]
        _draw_method(axis, SWEEP, ours, "image")
        _draw_method(axis, name, results[name], "image", colour="#d1495b")
        axis.set_title(name.removeprefix("perfusion, "), fontsize=9)
        axis.set_xlabel("text similarity")
    axes[0][0].set_ylabel("image similarity")
    _save(figure, file)


def plot_steps(results: Results, file: Path) -> None:
    """Plot the similarities over training steps, of every candidate on the tuning subjects."""
    measures = [name for name in MEASURES if name != "background"]
    size = (17, 4.5)
    figure, axes = plt.subplots(1, len(measures), figsize=size, sharex=True, layout="constrained")
    for number, (name, found) in enumerate(results.items()):
        method, _, rates = name.partition(", ")
        steps = [row["steps"] for row in found[0]["rows"]]
        if len(steps) == 1:
            continue
        for axis, measure in zip(axes, measures, strict=True):
            means = [
                np.mean([result["rows"][k][measure] for result in found]) for k in range(len(steps))
            ]
            axis.plot(
                steps, means, marker="osD^vX"[number % 6], ms=4, lw=1.2, color=_COLOURS[method],
                label=f"{method}, rate {rates}",
            )  # fmt: skip
    for axis, measure in zip(axes, measures, strict=True):
        axis.set(xscale="log", xlabel="training steps", ylabel=_TITLES[measure])
        axis.set_xticks(_STEPS_SHOWN, labels=map(str, _STEPS_SHOWN))
        axis.minorticks_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    _save(figure, file)


def _draw_method(
    axis: Axes,
    name: str,
    found: Sequence[dict[str, Any]],
    measure: str,
    *,
    across: str = "text",
    colour: str | None = None,
) -> None:
    """Draw the last step's dials as a line (textual inversion's steps), crosses for intervals."""
    rows = list(range(len(found[0]["rows"]))) if name == _BY_STEPS else sweep_rows(found)
    x, y = (
        np.array([interval([result["rows"][k][which] for result in found]) for k in rows]).T
        for which in (across, measure)
    )
    axis.errorbar(
        x[0], y[0], xerr=x[1], yerr=y[1], label=name, marker="o", ms=4,
        lw=1.6, elinewidth=0.6, color=colour or _COLOURS.get(name, "#444444"),
    )  # fmt: skip


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if figure.get_layout_engine() is None:
        figure.tight_layout()
    figure.savefig(file, pil_kwargs={"lossless": True, "method": 6})  # letters stay sharp
    plt.close(figure)
