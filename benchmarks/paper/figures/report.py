"""The results of a run, as tables and plots."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.paper.figures.front import Difference, Points, nearest
from benchmarks.paper.figures.scenes import add_scenes
from benchmarks.paper.figures.sheets import (
    write_attention,
    write_composition,
    write_subjects,
    write_sweep,
)
from benchmarks.paper.figures.sizes import of_sd15
from benchmarks.paper.measures import interval

Results = Mapping[str, Sequence[dict[str, Any]]]
"""By the method's name: one dictionary for each subject, see compare.py."""

SWEEP = "perfusion"
GLOBAL = "perfusion, global locking"
_BASELINES = ("textual inversion", "lora", "custom diffusion", "dreambooth")
_MEASURES = ("image", "colours", "outside", "text", "scene")
_TITLES = {
    "image": "image similarity (evaluator)",
    "colours": "overlap of colour histograms",
    "outside": "image similarity (EfficientNet-Lite2)",
    "text": "text similarity (evaluator)",
    "scene": "scene left as it is (edges' colours)",
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
# Of the plot over training steps.
_STEPS_SHOWN = (20, 40, 80, 160)

mpl.use("Agg")
plt.rcParams.update({"font.size": 9, "axes.grid": True, "grid.alpha": 0.25, "figure.dpi": 110})


def write(
    results: Results,
    attention: Sequence[dict[str, Any]],
    composed: Mapping[str, Sequence[dict[str, Any]]],
    folder: Path,
    to: Path,
) -> None:
    """Print the tables; write plots, contact sheets and all figures to the folder `to`."""
    to.mkdir(parents=True, exist_ok=True)
    add_scenes(results, folder)
    for title, table in (
        ("Similarities", similarity_table(results)),
        ("Our sweep and the others", front_table(results)),
        ("Costs", cost_table(results)),
        ("Attention", attention_table(attention)),
        ("Compositions", composition_table(composed)),
    ):
        print(f"\n## {title}\n\n{table}", flush=True)
    plot_plane(results, to / "plane.webp")
    if any(name.startswith("perfusion, ") for name in results):
        plot_ablations(results, to / "ablations.webp")
    write_subjects(results, folder, to / "subjects.webp")
    for name, file in ((SWEEP, "strengths.webp"), (GLOBAL, "strengths-global.webp")):
        if name in results:
            write_sweep(name, results, folder, to / file)
    write_attention(attention, folder, to / "attention.webp")
    for title, sets in composed.items():
        name = title.replace(", ", "-").replace(" ", "-")
        write_composition(title, sets, folder, to / f"{name}.webp")
    told = {"similarity": results, "attention": attention, "compositions": composed}
    (to / "results.json").write_text(json.dumps(told, separators=(",", ":")) + "\n")


def write_tuning(tried: Results, folder: Path, file: Path) -> None:
    """Print every candidate on the tuning subjects; plot them over training steps."""
    add_scenes(tried, folder)
    print(f"\n{similarity_table(tried)}", flush=True)
    plot_steps(tried, file)


def similarity_table(results: Results) -> str:
    """Tabulate every method, step count and dial: means over subjects with their 95 % intervals."""
    rows = [row for found in results.values() for result in found for row in result["rows"]]
    # Results of earlier versions lack the later measures.
    measures = [name for name in _MEASURES if all(name in row for row in rows)]
    header = ["method", "steps", "dial", *measures]
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for name, found in results.items():
        for k, row in enumerate(found[0]["rows"]):
            told = [_with_interval([result["rows"][k][m] for result in found]) for m in measures]
            lines.append(f"| {name} | {row['steps']} | {row['dial']:g} | {' | '.join(told)} |")
    return "\n".join(lines)


def cost_table(results: Results) -> str:
    """Tabulate what each method stores, here and on SD 1.5, and its training on one thread."""
    ours, large = results[SWEEP][0]["stored_bytes"], of_sd15()
    lines = [
        "| method | stored bytes | x ours | on SD 1.5 | x ours | steps | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in (SWEEP, *_BASELINES):
        if name in results:
            stored, steps = results[name][0]["stored_bytes"], results[name][0]["rows"][-1]["steps"]
            seconds = np.median([result["seconds"] for result in results[name]])
            lines.append(
                f"| {name} | {stored:,} | {stored / ours:,.2f} | {large[name]:,} | "
                f"{large[name] / large[SWEEP]:,.2f} | {steps} | {seconds:.0f} |"
            )
    return "\n".join(lines)


def front_table(results: Results) -> str:
    """Tabulate our sweep against every other point: where it is nearest, and which is above."""
    lines = [
        "| against | steps | dial | our dial | text, ours less theirs | image | | colours | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    by_name = {result["subject"]: result for result in results[SWEEP]}
    for name in results:
        if name in (SWEEP, "superclass"):
            continue
        other = results[name]
        ours = [by_name[result["subject"]] for result in other]
        rows = _sweep_rows(ours)
        for k, row in enumerate(other[0]["rows"]):
            image, colours = (
                nearest(_points(ours, rows, measure), _points(other, [k], measure))
                for measure in ("image", "colours")
            )
            dial = ours[0]["rows"][rows[image.dial]]["dial"]
            cells = [_difference(image.text), _difference(image.image), image.verdict]
            cells += [_difference(colours.image), colours.verdict]
            lines.append(
                f"| {name} | {row['steps']} | {row['dial']:g} | {dial:g} | {' | '.join(cells)} |"
            )
    return "\n".join(lines)


def plot_plane(results: Results, file: Path) -> None:
    """Plot figure 5: the similarity plane by each image measure, and what is left of the scene."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6))
    planes = (("text", "image"), ("text", "colours"), ("scene", "image"))
    for axis, (across, up) in zip(axes, planes, strict=True):
        for name in (SWEEP, GLOBAL, "superclass", *_BASELINES):
            if name in results:
                _draw_method(axis, name, results[name], up, across=across)
        axis.set(xlabel=_TITLES[across], ylabel=_TITLES[up])
    axes[0].legend(fontsize=8)
    _save(figure, file)


def plot_ablations(results: Results, file: Path) -> None:
    """Plot Perfusion's sweep and each of its ablations, on the ablation's subjects."""
    names = [name for name in results if name.startswith("perfusion, ")]
    figure, axes = plt.subplots(1, len(names), figsize=(2.6 * len(names), 3), sharex=True,
                                sharey=True, squeeze=False)  # fmt: skip
    for axis, name in zip(axes[0], names, strict=True):
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
    figure, axes = plt.subplots(1, 4, figsize=(14, 4.5), sharex=True, layout="constrained")
    for number, (name, found) in enumerate(results.items()):
        method, _, rates = name.partition(", ")
        steps = [row["steps"] for row in found[0]["rows"]]
        if len(steps) == 1:
            continue
        for axis, measure in zip(axes, _MEASURES, strict=True):
            means = [
                np.mean([result["rows"][k][measure] for result in found]) for k in range(len(steps))
            ]
            axis.plot(
                steps, means, marker="osD^vX"[number % 6], ms=4, lw=1.2, color=_COLOURS[method],
                label=f"{method}, rate {rates}",
            )  # fmt: skip
    for axis, measure in zip(axes, _MEASURES, strict=True):
        axis.set(xscale="log", xlabel="training steps", ylabel=_TITLES[measure])
        axis.set_xticks(_STEPS_SHOWN, labels=map(str, _STEPS_SHOWN))
        axis.minorticks_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    _save(figure, file)


def attention_table(found: Sequence[dict[str, Any]]) -> str:
    """Tabulate figure 1: coverage and share of the subject's word."""
    lines = ["| word of | covers | share of attention |", "| --- | --- | --- |"]
    for method in found[0]:
        if method != "subject":
            told = [
                _with_interval([result[method][m] for result in found])
                for m in ("coverage", "share")
            ]
            lines.append(f"| {method} | {' | '.join(told)} |")
    return "\n".join(lines)


def composition_table(found: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """Tabulate figure 4: how often all, and each, of the concepts are present."""
    lines = [
        "| | images | all present | each present | all recognised | each recognised |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, sets in found.items():
        images = [image for result in sets for image in result["images"]]
        cells = []
        for measure in ("present", "recognised"):
            every = [[concept[measure] for concept in image.values()] for image in images]
            cells += [
                np.mean([all(of_image) for of_image in every]),
                np.mean(np.concatenate(every)),
            ]
        told = " | ".join(f"{share:.0%}" for share in cells)
        lines.append(f"| {name} | {len(images)} | {told} |")
    return "\n".join(lines)


def _points(found: Sequence[dict[str, Any]], rows: Sequence[int], measure: str) -> Points:
    """Return text and image (or colour) similarity of some rows of every subject's result."""
    chosen = [[result["rows"][k] for k in rows] for result in found]
    return np.array([[(row["text"], row[measure]) for row in each] for each in chosen])


def _sweep_rows(found: Sequence[dict[str, Any]]) -> list[int]:
    last = found[0]["rows"][-1]["steps"]
    return [k for k, row in enumerate(found[0]["rows"]) if row["steps"] == last]


def _draw_method(
    axis: Axes,
    name: str,
    found: Sequence[dict[str, Any]],
    measure: str,
    *,
    across: str = "text",
    colour: str | None = None,
) -> None:
    """Draw the last step's dials as a line, with crosses for the intervals."""
    rows = _sweep_rows(found)
    x, y = (
        np.array([interval([result["rows"][k][which] for result in found]) for k in rows]).T
        for which in (across, measure)
    )
    axis.errorbar(
        x[0], y[0], xerr=x[1], yerr=y[1], label=name, marker="o", ms=4,
        lw=1.6, elinewidth=0.6, color=colour or _COLOURS.get(name, "#444444"),
    )  # fmt: skip


def _with_interval(values: Sequence[float]) -> str:
    mean, half = interval(values)
    return f"{mean:.3f} ± {half:.3f}"


def _difference(found: Difference) -> str:
    mean, half = found
    return f"{mean:+.3f} ± {half:.3f}"


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if figure.get_layout_engine() is None:
        figure.tight_layout()
    figure.savefig(file, pil_kwargs={"lossless": True, "method": 6})  # letters stay sharp
    plt.close(figure)
