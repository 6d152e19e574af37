"""The compared methods with their options, and the candidates for those."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

from benchmarks.paper.methods.ablations import NO_GATE
from benchmarks.paper.methods.baselines import (
    Baseline,
    Options,
    custom_diffusion,
    dreambooth,
    lora,
    textual_inversion,
)
from benchmarks.paper.methods.method import Method
from benchmarks.paper.methods.perfusion import USUAL_BETA, Perfusion, Superclass, usual_steps
from perfusion_core import BaseModel
from perfusion_core.evaluation.curve import BETAS

_ONE = (1.0,)


def compared(base: BaseModel, source: Path, folder: Path) -> Iterator[Method]:
    """Yield Perfusion with both lockings, then twice its steps at half the rate, and baselines.

    `source` is the base model's folder; `folder` holds the concepts of the first one.
    """
    yield Superclass(base)
    yield Perfusion(base)
    kept = folder / "perfusion"
    yield Perfusion(base, "perfusion, global locking", locking="global", kept=kept)
    options = Options(schedule={120: _ONE}, embedding_rate=0.02)
    yield textual_inversion(base, source, options)
    yield lora(base, source, Options(schedule={40: _ONE, 80: (0.6, 1.0)}, rate=3e-3))
    yield dreambooth(base, source, Options(schedule={80: _ONE}, rate=3e-4, prior=1.0))
    options = Options(schedule={80: _ONE}, rate=2e-3, embedding_rate=0.005, prior=1.0)
    yield custom_diffusion(base, source, options)
    steps, rate = 2 * usual_steps(base), base.defaults.train_config().learning_rate / 2
    yield Perfusion(
        base, "perfusion, twice the steps", {steps: BETAS}, options={"learning_rate": rate}
    )


def ablations(base: BaseModel) -> Iterator[Method]:
    """Yield Perfusion with one change each."""
    usual = {usual_steps(base): (USUAL_BETA,)}
    trade = {usual_steps(base): (0.9, USUAL_BETA, 0.5)}
    yield Perfusion(base, "perfusion, keys trained", trade, 2, trains_keys=True)
    yield Perfusion(base, "perfusion, one photo", usual, 2, photo_count=1)
    yield Perfusion(base, "perfusion, no gate", usual, 2, strategy=NO_GATE)
    yield Perfusion(base, "perfusion, no masks", usual, 2, masked=False)
    fixed = {"ema_decay": 1 - 1e-9}
    yield Perfusion(base, "perfusion, i* fixed", usual, 2, options=fixed)


def candidates(base: BaseModel, source: Path) -> Iterator[Method]:
    """Yield the candidates for the options, on the tuning subjects: rates and numbers of steps."""
    yield Superclass(base, seed_count=1)
    usual = (USUAL_BETA,)
    for rate, embedding_rate in product((0.03, 0.05, 0.1), (0.006, 0.02)):
        yield Perfusion(
            base, f"perfusion, {rate:g} and {embedding_rate:g}",
            {40: usual, 80: usual, 160: usual}, 1,
            options={"learning_rate": rate, "embedding_learning_rate": embedding_rate},
        )  # fmt: skip
    steps = {60: _ONE, 120: _ONE, 240: _ONE}
    for rate in (0.005, 0.02):
        options = Options(schedule=steps, embedding_rate=rate)
        yield _named(textual_inversion(base, source, options), rate)
    steps = {40: _ONE, 80: _ONE, 160: _ONE}
    for rate in (1e-3, 3e-3):
        yield _named(lora(base, source, Options(schedule=steps, rate=rate)), rate)
    for rate in (5e-4, 2e-3):
        options = Options(schedule=steps, rate=rate, embedding_rate=0.005, prior=1.0)
        yield _named(custom_diffusion(base, source, options), rate)
    steps = {20: _ONE, 40: _ONE, 80: _ONE}
    for rate in (1e-4, 3e-4):
        options = Options(schedule=steps, rate=rate, prior=1.0)
        yield _named(dreambooth(base, source, options), rate)
    # Where LoRA's similarity comes from: what Perfusion learns, and what it locks.
    yield Perfusion(base, "perfusion, as shipped", {usual_steps(base): usual}, 2)
    values = Options(schedule={80: _ONE}, rate=3e-3, projections=("attn2.to_v",))
    both = replace(values, projections=("attn2.to_k", "attn2.to_v"))
    yield replace(lora(base, source, values), name="lora, values alone", seed_count=2)
    yield replace(lora(base, source, both), name="lora, keys and values", seed_count=2)


def _named(method: Baseline, rate: float) -> Baseline:
    return replace(method, name=f"{method.name}, {rate:g}", seed_count=1)
