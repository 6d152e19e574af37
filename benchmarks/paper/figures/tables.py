"""The results of a run as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.paper.figures.front import Difference
from benchmarks.paper.figures.sizes import of_sd15
from benchmarks.paper.measures import interval
from benchmarks.paper.methods.choice import ONE_PHOTO
from benchmarks.paper.methods.perfusion import USUAL_BETA

Results = Mapping[str, Sequence[dict[str, Any]]]
"""By the method's name: one dictionary for each subject, see compare.py."""

SWEEP = "perfusion"
GLOBAL = "perfusion, global locking"
BASELINES = ("textual inversion", "lora", "custom diffusion", "dreambooth")
IMAGE_MEASURES = ("image", "outside", "colours")
MEASURES = (*IMAGE_MEASURES, "text", "scene", "background")
_COPYING = ("nearest", "pixels")
_BAR = 0.85  # of five photos' gain, for one photo


def similarity_table(results: Results) -> str:
    """Tabulate every method, step count and dial: means over subjects with their 95 % intervals."""
    rows = [row for found in results.values() for result in found for row in result["rows"]]
    # Results of earlier versions lack the later measures.
    measures = [name for name in MEASURES if all(name in row for row in rows)]
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
    for name in (SWEEP, *BASELINES):
        if name in results:
            stored, steps = results[name][0]["stored_bytes"], results[name][0]["rows"][-1]["steps"]
            seconds = np.median([result["seconds"] for result in results[name]])
            lines.append(
                f"| {name} | {stored:,} | {stored / ours:,.2f} | {large[name]:,} | "
                f"{large[name] / large[SWEEP]:,.2f} | {steps} | {seconds:.0f} |"
            )
    return "\n".join(lines)


def change_table(results: Results) -> str:
    """Tabulate the change from our first dial to the last, within subjects, of both lockings."""
    measures = ("image", "outside", "colours", "text")
    lines = [f"| from the first β to the last | {' | '.join(measures)} |", f"|{' --- |' * 5}"]
    for name in (SWEEP, GLOBAL):
        if name in results:
            rows = sweep_rows(results[name])
            told = [
                difference(
                    interval(
                        [
                            result["rows"][rows[-1]][measure] - result["rows"][rows[0]][measure]
                            for result in results[name]
                        ]
                    )
                )
                for measure in measures
            ]
            lines.append(f"| {name} | {' | '.join(told)} |")
    return "\n".join(lines)


def gain_table(results: Results) -> str:
    """Tabulate the gain over the plain superclass: one photo's, five photos', and their ratio.

    The last column is one photo's gain less 0.85 of five photos', within subjects: not surely below
    0 is the bar.
    """
    lines = [
        "| by | one photo | five photos | share | one less 0.85 of five |",
        "| --- | --- | --- | --- | --- |",
    ]
    plain = {result["subject"]: result["rows"][0] for result in results["superclass"]}
    few = {result["subject"]: _usual(result) for result in results[ONE_PHOTO]}
    many = {result["subject"]: _usual(result) for result in results[SWEEP]}
    for measure in IMAGE_MEASURES:
        gains = [
            [rows[name][measure] - plain[name][measure] for name in few] for rows in (few, many)
        ]
        paired = [ours - _BAR * theirs for ours, theirs in zip(*gains, strict=True)]
        share = np.mean(gains[0]) / np.mean(gains[1])
        told = [difference(interval(gain)) for gain in gains]
        lines.append(
            f"| {measure} | {' | '.join(told)} | {share:.0%} | {difference(interval(paired))} |"
        )
    return "\n".join(lines)


def acting_table(results: Results) -> str:
    """Tabulate the prompts that act, pose and wear, of every method at its usual dial."""
    measures = (*IMAGE_MEASURES, "text")
    header = ["method", "steps", "dial", *measures]
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for name, found in results.items():
        told = [_with_interval([result["acting"][m] for result in found]) for m in measures]
        usual = found[0]["acting"]
        lines.append(f"| {name} | {usual['steps']} | {usual['dial']:g} | {' | '.join(told)} |")
    return "\n".join(lines)


def copying_table(results: Results) -> str:
    """Tabulate how near images come to a photo: cosine, and mean difference of pixels."""
    lines = [
        "| method | steps | dial | cosine to the nearest photo | pixels from it |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, found in results.items():
        for k, row in enumerate(found[0]["rows"]):
            told = [_with_interval([result["rows"][k][m] for result in found]) for m in _COPYING]
            lines.append(f"| {name} | {row['steps']} | {row['dial']:g} | {' | '.join(told)} |")
    return "\n".join(lines)


def leakage_table(results: Results) -> str:
    """Tabulate, for photos with one background, what each method adds of it to the edges."""
    lines = [
        "| method | dial | image | EfficientNet-Lite2 | text | photos' background | added |",
        f"|{' --- |' * 7}",
    ]
    plain = {result["subject"]: result["rows"][-1] for result in results["superclass"]}
    for name, found in results.items():
        rows = {result["subject"]: result["rows"][-1] for result in found}
        told = [
            _with_interval([row[measure] for row in rows.values()])
            for measure in ("image", "outside", "text", "background")
        ]
        added = [row["background"] - plain[subject]["background"] for subject, row in rows.items()]
        dial = found[0]["rows"][-1]["dial"]
        lines.append(f"| {name} | {dial:g} | {' | '.join(told)} | {difference(interval(added))} |")
    return "\n".join(lines)


def attention_table(found: Sequence[dict[str, Any]]) -> str:
    """Tabulate figure 1: coverage and share of the subject's word, and what others are left."""
    lines = [
        "| word of | covers | share of attention | left to other words |",
        "| --- | --- | --- | --- |",
    ]
    for method in found[0]["methods"]:
        told = [
            _with_interval([result["methods"][method][measure] for result in found])
            for measure in ("coverage", "share", "others")
        ]
        lines.append(f"| {method} | {' | '.join(told)} |")
    return "\n".join(lines)


def composition_table(found: Results) -> str:
    """Tabulate figure 4: how often all, and each, of the concepts are present; paintings apart."""
    lines = [
        "| | images | all present | each | all recognised | each | all by EfficientNet-Lite2 "
        "| each | colours | text |",
        f"|{' --- |' * 10}",
    ]
    for title, sets in found.items():
        images = [image for result in sets for image in result["images"]]
        painted = [image for image in images if "painting" in image["prompt"]]
        others = [image for image in images if "painting" not in image["prompt"]]
        placed = [image for image in others if image["prompt"].endswith("on the beach")]
        parts = [(title, others), (f"{title}, painted", painted)]
        if 0 < len(placed) < len(others):
            parts.append((f"{title}, on the beach", placed))
        for name, chosen in parts:
            if chosen:
                lines.append(f"| {name} | {len(chosen)} | {_composed(chosen)} |")
    return "\n".join(lines)


def sweep_rows(found: Sequence[dict[str, Any]]) -> list[int]:
    """Return the numbers of the rows after the last step."""
    last = found[0]["rows"][-1]["steps"]
    return [k for k, row in enumerate(found[0]["rows"]) if row["steps"] == last]


def _composed(images: Sequence[dict[str, Any]]) -> str:
    cells = []
    for measure in ("present", "recognised", "recognised_outside"):
        every = [[found[measure] for found in image["concepts"].values()] for image in images]
        cells += [
            f"{np.mean([all(of_image) for of_image in every]):.0%}",
            f"{np.mean(np.concatenate(every)):.0%}",
        ]
    colours = [found["colours"] for image in images for found in image["concepts"].values()]
    cells += [f"{np.mean(colours):.3f}", f"{np.mean([image['text'] for image in images]):.3f}"]
    return " | ".join(cells)


def _usual(result: dict[str, Any]) -> dict[str, Any]:
    (row,) = (row for row in result["rows"] if row["dial"] == USUAL_BETA)
    return dict(row)


def _with_interval(values: Sequence[float]) -> str:
    mean, half = interval(values)
    return f"{mean:.3f} ± {half:.3f}"


def difference(found: Difference) -> str:
    """Return a difference with its interval."""
    mean, half = found
    return f"{mean:+.3f} ± {half:.3f}"
