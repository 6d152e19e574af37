"""A whole run as tables, plots, sheets and one file of all figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from benchmarks.paper.figures import fronts, tables
from benchmarks.paper.figures.eyes import write_eyes
from benchmarks.paper.figures.plots import plot_ablations, plot_plane, plot_steps
from benchmarks.paper.figures.scenes import add_scenes
from benchmarks.paper.figures.sets import BETAS_OF_PAIRS, pairs_at
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


Made = Mapping[str, Mapping[str, Sequence[str]]]
"""By part and name: for each subject the digest of what decides the result (kept.py)."""


@dataclass(frozen=True)
class Found:
    """What was measured: by this run, and what results.json holds of earlier runs.

    Earlier results have no "sheet", so their images are not drawn anew.
    """

    of: str  # what the results depend on, see kept_name
    made: Made
    similarity: Results
    attention: Sequence[dict[str, Any]] = ()
    compositions: Results = field(default_factory=dict)
    sharing: Results = field(default_factory=dict)  # subjects whose photos share one background

    def with_earlier(self, earlier: Mapping[str, Any]) -> Self:
        """Add what earlier runs have made of other names, if today's plan would make it so."""

        def joined(part: str, own: Results) -> Results:
            known = {
                name: found
                for name, found in earlier[part].items()
                if earlier["made"][part][name] == self.made[part].get(name)
            }
            both = {**known, **own}
            return {name: both[name] for name in self.made[part] if name in both}

        same_attention = earlier["made"].get("attention") == self.made.get("attention")
        return replace(
            self,
            similarity=joined("similarity", self.similarity),
            compositions=joined("compositions", self.compositions),
            sharing=joined("sharing", self.sharing),
            attention=self.attention or (earlier["attention"] if same_attention else []),
        )


def read_earlier(file: Path, *, of: str) -> dict[str, Any]:
    """Read results.json; ValueError if it is not of the base model, defaults and evaluator `of`."""
    told: dict[str, Any] = json.loads(file.read_text())
    if told.get("of") != of:
        raise ValueError(f"{file} is not of this base model, its defaults and this evaluator.")
    return told


def write(found: Found, folder: Path, to: Path) -> None:
    """Print the tables; write plots, contact sheets and all figures to the folder `to`.

    Sheets for fresh eyes go next to the results, since documents do not show them.
    """
    to.mkdir(parents=True, exist_ok=True)
    results = found.similarity
    drawn = _with_sheets(results)
    add_scenes(drawn, folder)
    told = {
        "similarity": results,
        "sharing": found.sharing,
        "attention": found.attention,
        "compositions": found.compositions,
    }
    made = {
        part: {n: digests for n, digests in named.items() if part == "attention" or n in told[part]}
        for part, named in found.made.items()
    }
    told |= {"of": found.of, "made": made}
    short = json.dumps(_rounded(told), separators=(",", ":"))
    (to / "results.json").write_text(short + "\n")
    for title, table in _tables(found):
        print(f"\n## {title}\n\n{table}", flush=True)
    plot_plane(results, to / "plane.webp")
    if any(name.startswith("perfusion, ") for name in results):
        plot_ablations(results, to / "ablations.webp")
    if SWEEP in drawn:
        write_subjects(drawn, folder, to / "subjects.webp")
        write_acts(drawn, folder, to / "acts.webp")
    for name, file in ((SWEEP, "strengths.webp"), (GLOBAL, "strengths-global.webp")):
        if name in drawn:
            write_sweep(name, drawn, folder, to / file)
    if _has_sheets(found.attention):
        write_attention(found.attention, folder, to / "attention.webp")
    composed = _with_sheets(found.compositions)
    for title, sets in composed.items():
        name = title.replace(", ", "-").replace(" ", "-")
        write_composition(sets, folder, to / f"{name}.webp")
    if composed:
        swept = {pairs_at(beta) for beta in BETAS_OF_PAIRS}
        judged = {title: sets for title, sets in composed.items() if title not in swept}
        if judged:
            write_eyes(judged, folder, folder / "eyes")


def _with_sheets(results: Results) -> Results:
    return {name: found for name, found in results.items() if _has_sheets(found)}


def _has_sheets(found: Sequence[Mapping[str, Any]]) -> bool:
    return bool(found) and "sheet" in found[0]


def _tables(found: Found) -> list[tuple[str, str]]:
    results = found.similarity
    told = [
        ("Similarities", tables.similarity_table(results)),
        ("Our sweep from its first bias to its last", tables.change_table(results)),
        ("Our sweep and the others", fronts.front_table(results)),
        ("The same with the scene in the text's place", fronts.front_table(results, "scene")),
        ("Prompts that act, pose and wear", tables.acting_table(results)),
        ("How near images come to photos", tables.copying_table(results)),
        ("Costs", tables.cost_table(results)),
    ]
    if found.attention:
        told.append(("Attention", tables.attention_table(found.attention)))
    if ONE_PHOTO in results:
        told.append(("One photo", tables.gain_table(results)))
    if "superclass" in found.sharing:
        told.append(("Photos that share one background", tables.leakage_table(found.sharing)))
    if found.compositions:
        told.append(("Compositions", tables.composition_table(found.compositions)))
    if fronts.has_pairs(found.compositions):
        told.append(("Pairs and the others", fronts.composition_front_table(found.compositions)))
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
