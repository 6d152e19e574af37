"""The compared methods with their options, and the candidates for those."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.paper.methods.ablations import NO_GATE, UngatedKeys
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
from perfusion_core.config import Positions
from perfusion_core.covariance.estimate import Covariance
from perfusion_core.evaluation.curve import BETAS
from perfusion_core.strength import DEFAULT_TAU

_ONE = (1.0,)
_TRADE = (0.9, USUAL_BETA, 0.5)
_INVERSION_STEPS = (60, 120, 240)
_LONGER_STEPS = (*_INVERSION_STEPS, 480, 1000)
_OF_ABLATIONS = 2  # images of each prompt
ONE_PHOTO = "perfusion, one photo"
KEYS_TRAINED = "perfusion, keys trained"
NO_MASKS = "perfusion, no masks"


def compared(base: BaseModel, source: Path, *, short: bool = False) -> Iterator[Method]:
    """Yield Perfusion with both lockings, then baselines, and Perfusion's other trainings.

    `source` is the base model's folder. In the short form textual inversion is short, too.
    """
    yield Superclass(base)
    yield Perfusion(base)
    yield Perfusion(base, "perfusion, global locking", locking="global", taught_as="perfusion")
    yield inversion(base, source, _INVERSION_STEPS[: 2 if short else None])
    yield usual_lora(base, source)
    yield usual_dreambooth(base, source)
    yield usual_custom_diffusion(base, source)
    yield Perfusion(base, ONE_PHOTO, {usual_steps(base): (USUAL_BETA,)}, photo_count=1)
    steps, rate = 2 * usual_steps(base), base.defaults.train_config().learning_rate / 2
    yield Perfusion(
        base, "perfusion, twice the steps", {steps: BETAS}, options={"learning_rate": rate}
    )


def inversion(base: BaseModel, source: Path, steps: tuple[int, ...]) -> Baseline:
    """Return textual inversion as it is compared; the last of several steps is the tuned one."""
    options = Options(schedule=dict.fromkeys(steps, _ONE), embedding_rate=0.02)
    return textual_inversion(base, source, options)


def longer_inversion(base: BaseModel, source: Path, *, short: bool = False) -> Baseline:
    """Return textual inversion whose word is watched over far more steps than it needs."""
    longer = inversion(base, source, _LONGER_STEPS[: 2 if short else None])
    return replace(longer, name="textual inversion, longer", seed_count=_OF_ABLATIONS)


def usual_lora(base: BaseModel, source: Path) -> Baseline:
    """Return LoRA as it is compared."""
    return lora(base, source, Options(schedule={40: _ONE, 80: (0.6, 1.0)}, rate=1e-3))


def usual_dreambooth(base: BaseModel, source: Path) -> Baseline:
    """Return DreamBooth as it is compared."""
    return dreambooth(base, source, Options(schedule={20: _ONE}, rate=1e-4, prior=1.0))


def usual_custom_diffusion(base: BaseModel, source: Path) -> Baseline:
    """Return Custom Diffusion as it is compared."""
    options = Options(schedule={80: _ONE}, rate=2e-3, embedding_rate=0.005, prior=1.0)
    return custom_diffusion(base, source, options)


def keys_trained(base: BaseModel) -> Perfusion:
    """Return Perfusion with Keys that are learned, over the whole sweep."""
    return Perfusion(
        base, KEYS_TRAINED, {usual_steps(base): BETAS}, _OF_ABLATIONS, trains_keys=True
    )


def sharing(base: BaseModel, source: Path) -> Iterator[Method]:
    """Yield who learns subjects whose photos share one background."""
    usual, count = {usual_steps(base): (USUAL_BETA,)}, _OF_ABLATIONS
    yield Superclass(base, seed_count=count)
    yield Perfusion(base, schedule=usual, seed_count=count)
    yield Perfusion(base, NO_MASKS, usual, count, masked=False)
    yield replace(inversion(base, source, _INVERSION_STEPS[-1:]), seed_count=count)
    for make in (usual_lora, usual_dreambooth, usual_custom_diffusion):
        yield replace(make(base, source), seed_count=count)


def ablations(base: BaseModel, source: Path, folder: Path) -> Iterator[Method]:
    """Yield textual inversion over many steps, and Perfusion with one change each.

    `source` is the base model's folder, and `folder` keeps the covariances of other positions.

    The last ones are the first to be left out where time is short.
    """
    usual, count = {usual_steps(base): (USUAL_BETA,)}, _OF_ABLATIONS
    trade, sweep = {usual_steps(base): _TRADE}, {usual_steps(base): BETAS}
    yield longer_inversion(base, source)
    yield keys_trained(base)
    ungated = UngatedKeys().strategy
    yield Perfusion(base, "perfusion, keys ungated", sweep, count, strategy=ungated)
    yield Perfusion(base, "perfusion, no gate", usual, count, strategy=NO_GATE)
    yield Perfusion(base, NO_MASKS, usual, count, masked=False)
    fixed = {"ema_decay": 1 - 1e-9}
    yield Perfusion(base, "perfusion, i* fixed", usual, count, options=fixed)
    for beta in (0.3, 0.5, 1.0):
        name = f"perfusion, trained at bias {beta:g}"
        yield Perfusion(base, name, sweep, count, options={"beta": beta})
    for tau in (DEFAULT_TAU / 3, DEFAULT_TAU * 2 / 3, DEFAULT_TAU * 2):
        name = f"perfusion, drawn at temperature {tau:g}"
        yield Perfusion(base, name, trade, count, tau=tau, taught_as="perfusion")
    positions: tuple[tuple[Positions, str], ...] = (
        ("content", "perfusion, C of content words"),
        ("one-per-caption", "perfusion, C of one token a caption"),
    )
    for counted, name in positions:
        yield Perfusion(with_positions(base, counted, folder), name, sweep, count)


def with_positions(base: BaseModel, positions: Positions, folder: Path) -> BaseModel:
    """Return the base model with C of other positions, kept in `folder`."""
    file, other = folder / f"covariance-{positions}.safetensors", copy.copy(base)
    if not file.exists():
        other.estimate_covariance(positions=positions).save(file)
    other.covariance = Covariance.load(file)
    return other


def candidates(base: BaseModel, source: Path) -> Iterator[Method]:
    """Yield the candidates for the options, on the tuning subjects: rates and numbers of steps.

    Then two other options of Perfusion at the rate that was usual when they were tried.
    """
    yield Superclass(base, seed_count=1)
    usual = (USUAL_BETA,)
    for rate in (0.1, 0.2, 0.4):
        longer = dict.fromkeys((80, 160, 320), usual)
        changed = {"learning_rate": rate}
        yield Perfusion(base, f"perfusion, {rate:g}", longer, 1, options=changed)
    for rate in (0.005, 0.02):
        options = Options(schedule=dict.fromkeys((60, 120, 240), _ONE), embedding_rate=rate)
        yield _named(textual_inversion(base, source, options), rate)
    steps = {40: _ONE, 80: _ONE, 160: _ONE}
    for rate in (1e-3, 3e-3):
        yield _named(lora(base, source, Options(schedule=steps, rate=rate)), rate)
    steps = {20: _ONE, 40: _ONE, 80: _ONE}
    for rate, prior in ((5e-4, 1.0), (2e-3, 1.0), (2e-3, 0.0)):
        options = Options(schedule=steps, rate=rate, embedding_rate=0.005, prior=prior)
        yield _named(custom_diffusion(base, source, options), rate)
    for rate, prior in ((1e-4, 1.0), (3e-4, 1.0), (1e-4, 0.0)):
        options = Options(schedule=steps, rate=rate, prior=prior)
        yield _named(dreambooth(base, source, options), rate)
    for option, value in (("background_weight", 3.0), ("beta", 0.5)):
        changed = {"learning_rate": 0.1, option: value}
        name = f"perfusion, 0.1, {option} {value:g}"
        yield Perfusion(base, name, {usual_steps(base): usual}, 1, options=changed)
    # Where LoRA's similarity comes from: what Perfusion learns, and what it locks.
    values = Options(schedule={80: _ONE}, rate=1e-3, projections=("attn2.to_v",))
    both = replace(values, projections=("attn2.to_k", "attn2.to_v"))
    yield replace(lora(base, source, values), name="lora, values alone", seed_count=1)
    yield replace(lora(base, source, both), name="lora, keys and values", seed_count=1)


def _named(method: Baseline, rate: float) -> Baseline:
    """Name a candidate; those that usually have a prior say if they have none."""
    usual = method.name in ("custom diffusion", "dreambooth")
    alone = " without prior" if usual and not method.options.prior else ""
    return replace(method, name=f"{method.name}, {rate:g}{alone}", seed_count=1)
