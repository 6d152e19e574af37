"""A whole run as tables, plots, sheets and one file of all figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.paper.figures import tables
from benchmarks.paper.figures.eyes import write_eyes
from benchmarks.paper.figures.plots import plot_ablations, plot_plane, plot_steps
from benchmarks.paper.figures.scenes import add_scenes
from benchmarks.paper.figures.sheets import (
    write_acts,
    write_attention,
    write_composition,
    write_subjects,
    write_sweep,
)
from benchmarks.paper.figures.tables import GLOBAL, SWEEP, Results
from benchmarks.paper.methods.choice import ONE_PHOTO

_DIGITS = 4  # of every figure in results.json


@dataclass(frozen=True)
class Found:
    """What a run has measured."""

    similarity: Results
    attention: Sequence[dict[str, Any]]
    compositions: Results
    sharing: Results = field(default_factory=dict)  # subjects whose photos share one background


def write(found: Found, folder: Path, to: Path) -> None:
    """Print the tables; write plots, contact sheets and all figures to the folder `to`.

    Sheets for fresh eyes go next to the results, since documents do not show them.
    """
    to.mkdir(parents=True, exist_ok=True)
    results = found.similarity
    add_scenes(results, folder)
    for title, table in _tables(found):
        print(f"\n## {title}\n\n{table}", flush=True)
    plot_plane(results, to / "plane.webp")
    if any(name.startswith("perfusion, ") for name in results):
        plot_ablations(results, to / "ablations.webp")
    write_subjects(results, folder, to / "subjects.webp")
    write_acts(results, folder, to / "acts.webp")
    for name, file in ((SWEEP, "strengths.webp"), (GLOBAL, "strengths-global.webp")):
        if name in results:
            write_sweep(name, results, folder, to / file)
    if found.attention:
        write_attention(found.attention, folder, to / "attention.webp")
    for title, sets in found.compositions.items():
        name = title.replace(", ", "-").replace(" ", "-")
        write_composition(sets, folder, to / f"{name}.webp")
    if found.compositions:
        write_eyes(found.compositions, folder, folder / "eyes")
    told = {
        "similarity": results,
        "sharing": found.sharing,
        "attention": found.attention,
        "compositions": found.compositions,
    }
    short = json.dumps(_rounded(told), separators=(",", ":"))
    (to / "results.json").write_text(short + "\n")


def _tables(found: Found) -> list[tuple[str, str]]:
    results = found.similarity
    told = [
        ("Similarities", tables.similarity_table(results)),
        ("Our sweep from its first bias to its last", tables.change_table(results)),
        ("Our sweep and the others", tables.front_table(results)),
        ("Prompts that act, pose and wear", tables.acting_table(results)),
        ("How near images come to photos", tables.copying_table(results)),
        ("Costs", tables.cost_table(results)),
    ]
    if found.attention:
        told.append(("Attention", tables.attention_table(found.attention)))
    if ONE_PHOTO in results:
        told.append(("One photo", tables.gain_table(results)))
    if found.sharing:
        told.append(("Photos that share one background", tables.leakage_table(found.sharing)))
    if found.compositions:
        told.append(("Compositions", tables.composition_table(found.compositions)))
    return told


def _rounded(told: Any) -> Any:
    """Return figures with few digits, so that the file stays small."""
    if isinstance(told, float):
        return round(told, _DIGITS)
    if isinstance(told, Mapping):
        return {key: _rounded(value) for key, value in told.items() if key != "sheet"}
    if isinstance(told, list | tuple):
        return [_rounded(value) for value in told]
    return told


def write_tuning(tried: Results, folder: Path, file: Path) -> None:
    """Print every candidate on the tuning subjects; plot them over training steps."""
    add_scenes(tried, folder)
    print(f"\n{tables.similarity_table(tried)}", flush=True)
    plot_steps(tried, file)
