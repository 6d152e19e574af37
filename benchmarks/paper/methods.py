"""Which methods are compared, with which options, and what those were chosen among."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

from benchmarks.paper.baselines import (
    Baseline,
    Options,
    custom_diffusion,
    dreambooth,
    lora,
    textual_inversion,
)
from benchmarks.paper.method import Method
from benchmarks.paper.perfusion import STRENGTHS, USUAL_STRENGTH, Perfusion, Superclass
from perfusion_core import BaseModel

_ONE = (1.0,)
_USUAL = {80: (USUAL_STRENGTH,)}


def compared(base: BaseModel) -> Iterator[Method]:
    """Perfusion, in twice its steps at half the rate too, and the baselines."""
    yield Superclass(base)
    yield Perfusion(base)
    yield textual_inversion(base, Options(schedule={120: _ONE}, embedding_rate=0.02))
    yield lora(base, Options(schedule={40: _ONE, 80: (0.6, 1.0)}, rate=3e-3))
    yield dreambooth(base, Options(schedule={80: _ONE}, rate=3e-4, prior=1.0))
    options = Options(schedule={80: _ONE}, rate=2e-3, embedding_rate=0.005, prior=1.0)
    yield custom_diffusion(base, options)
    careful = {"learning_rate": 0.05}
    yield Perfusion(base, "perfusion, twice the steps", {160: STRENGTHS}, options=careful)


def ablations(base: BaseModel, folder: Path) -> Iterator[Method]:
    """One change each; `folder` holds the concepts that `compared` has taught."""
    trade = {80: (0.75, USUAL_STRENGTH)}
    yield Perfusion(base, "perfusion, keys trained", trade, 2, change="keys trained")
    yield Perfusion(base, "perfusion, one photo", _USUAL, 2, photo_count=1)
    taught = folder / "perfusion"
    sweep = {80: STRENGTHS}
    yield Perfusion(base, "perfusion, global locking", sweep, 2, locking="global", kept=taught)
    yield Perfusion(base, "perfusion, no gate", _USUAL, 2, change="no gate")
    yield Perfusion(base, "perfusion, no masks", _USUAL, 2, masked=False)
    fixed = {"ema_decay": 1 - 1e-9}
    yield Perfusion(base, "perfusion, i* fixed", _USUAL, 2, options=fixed)


def candidates(base: BaseModel) -> Iterator[Method]:
    """What options were chosen among, on the tuning subjects: rates, and numbers of steps."""
    yield Superclass(base, seed_count=1)
    usual = (USUAL_STRENGTH,)
    for rate, embedding_rate in product((0.05, 0.1, 0.2), (0.006, 0.02)):
        yield Perfusion(
            base, f"perfusion, {rate:g} and {embedding_rate:g}",
            {40: usual, 80: usual, 160: usual}, 1,
            options={"learning_rate": rate, "embedding_learning_rate": embedding_rate},
        )  # fmt: skip
    steps = {60: _ONE, 120: _ONE, 240: _ONE}
    for rate in (0.005, 0.02):
        yield _named(textual_inversion(base, Options(schedule=steps, embedding_rate=rate)), rate)
    steps = {40: _ONE, 80: _ONE, 160: _ONE}
    for rate in (1e-3, 3e-3):
        yield _named(lora(base, Options(schedule=steps, rate=rate)), rate)
    for rate in (5e-4, 2e-3):
        options = Options(schedule=steps, rate=rate, embedding_rate=0.005, prior=1.0)
        yield _named(custom_diffusion(base, options), rate)
    steps = {20: _ONE, 40: _ONE, 80: _ONE}
    for rate in (1e-4, 3e-4):
        yield _named(dreambooth(base, Options(schedule=steps, rate=rate, prior=1.0)), rate)
    # Where LoRA's similarity comes from: what Perfusion learns, and what it locks.
    yield Perfusion(base, "perfusion, as shipped", _USUAL, 2)
    values = Options(schedule={80: _ONE}, rate=3e-3, projections=("attn2.to_v",))
    both = replace(values, projections=("attn2.to_k", "attn2.to_v"))
    yield replace(lora(base, values), name="lora, values alone", seed_count=2)
    yield replace(lora(base, both), name="lora, keys and values", seed_count=2)


def _named(method: Baseline, rate: float) -> Baseline:
    return replace(method, name=f"{method.name}, {rate:g}", seed_count=1)
