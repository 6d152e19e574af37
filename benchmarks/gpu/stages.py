"""The stages of benchmarks/gpu/__main__.py: each measures one thing and returns its figures."""

import copy
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.bench import SUPERCLASS, Bench, Figures, load
from benchmarks.measure import Work, flops, in_rounds, peak_bytes, ratio, seconds
from benchmarks.rivals import Lora, TextualInversion
from perfusion_core import BaseModel, TrainConfig, train
from perfusion_core.sampling.sampler import ImageRequest, decode, generate, start, step
from perfusion_core.training.trainer import Training
from worker.engine.engine import Engine

_PROMPT = "a photo of a <x> on the beach"
_PLAIN = "a photo of a teddy on the beach"
_LONGEST_TRAINING_SECONDS = 120.0


def matrix(bench: Bench) -> Figures:
    """Measure the card's own rate, by a large product of random matrices."""
    n, rates = bench.size.matrix, {}
    for dtype in (torch.bfloat16, torch.float32):
        a, b = torch.randn(2, n, n, device=bench.device).to(dtype)
        times = [seconds(partial(torch.matmul, a, b)) for _ in range(8)][3:]
        rates[str(dtype).removeprefix("torch.")] = 2 * n**3 / statistics.median(times) / 1e12
    return {"tflops_a_second": rates}


def options(bench: Bench) -> Figures:
    """Measure a training step with each option that may help; those that do stay on."""
    training = bench.training(bench.size.batch)
    found: Figures = {"tflop_a_step": flops(lambda: next(training)) / 1e12, "seconds": {}}
    best = found["seconds"]["as it was loaded"] = _step_seconds(training, bench.size.timed_steps)
    for name, (switch_on, switch_off) in _switches(bench).items():
        switch_on()
        found["seconds"][name] = now = _step_seconds(training, bench.size.timed_steps)
        if now < 0.99 * best:
            best = now
        else:
            switch_off()
            found["seconds"][f"{name} (off again)"] = found["seconds"].pop(name)
    with _autocast(bench.base):
        found["seconds"]["float32 weights under autocast (off again)"] = _step_seconds(
            training, bench.size.timed_steps
        )
    return found | {"best_seconds": best, **_rate(bench, found["tflop_a_step"], best)}


def whole_training(bench: Bench) -> Figures:
    """Measure a whole training, examples included, with the options that helped."""
    config = TrainConfig(max_train_steps=bench.size.steps, train_batch_size=bench.size.batch)

    expected = bench.figures.get("options", {}).get("best_seconds", 0.0) * bench.size.steps
    if expected > _LONGEST_TRAINING_SECONDS:
        return {"skipped": f"it would take {expected:.0f} s, extrapolated from `options`"}
    taken: list[float] = []

    def teach() -> None:
        training = train(
            bench.base, [bench.picture], name="x", superclass=SUPERCLASS, config=config
        )
        list(training)

    held = peak_bytes(lambda: taken.append(seconds(teach)))
    return {"seconds": taken[0], "peak_bytes": held}


def rivals(bench: Bench) -> Figures:
    """Compare a step with textual inversion's and LoRA's, in paired rounds."""
    ours = bench.training(bench.size.rival_batch)
    steps: dict[str, Work] = {"ours": lambda: next(ours)}
    for name, kind in (("textual inversion", TextualInversion), ("lora", Lora)):
        own = copy.deepcopy(bench.pipeline)
        own.text_encoder.float()
        steps[name] = kind(
            own, ours.examples.latents, batch=bench.size.rival_batch, superclass=SUPERCLASS,
            dtype=bench.base.dtype,
        ).step  # fmt: skip
    times = in_rounds(steps, bench.size.rounds)
    memory = {name: peak_bytes(step) for name, step in steps.items()}
    return {
        name: {
            "seconds": statistics.median(own),
            "peak_bytes": memory[name],
            "ours_takes_of_its_time": ratio(times["ours"], own),
            "ours_takes_of_its_memory": memory["ours"] / memory[name],
        }
        for name, own in times.items()
    }


def one_image(bench: Bench) -> Figures:
    """Compare one image with guidance and a concept with diffusers' own pipeline."""
    use = {"x": bench.concept()}

    def ours() -> object:
        return generate(bench.base, _PROMPT, concepts=use, config=bench.images(1))

    times = in_rounds(
        {"ours": ours, "diffusers": lambda: _by_diffusers(bench, 1)}, bench.size.rounds
    )
    tflop, taken = flops(ours) / 1e12, statistics.median(times["ours"])
    (trajectory,) = start(
        bench.base, ImageRequest(prompt=_PROMPT, concepts=use, config=bench.images(1))
    )
    return {
        "seconds": taken,
        "diffusers_seconds": statistics.median(times["diffusers"]),
        "ours_takes_of_its_time": ratio(times["ours"], times["diffusers"]),
        "decoding_seconds": statistics.median(
            seconds(lambda: decode(bench.base, trajectory)) for _ in range(3)
        ),
        "tflop": tflop,
        **_rate(bench, tflop, taken),
    }


def batches(bench: Bench) -> Figures:
    """Measure the seconds per image of several at once, and find the batch with the fewest."""
    use, each = {"x": bench.concept()}, {}
    for count in bench.size.images:
        request = ImageRequest(prompt=_PROMPT, concepts=use, config=bench.images(count))

        def draw(request: ImageRequest = request) -> None:
            trajectories = start(bench.base, request)
            while not trajectories[0].finished:
                step(bench.base, trajectories)
            for trajectory in trajectories:
                decode(bench.base, trajectory)

        draw()
        each[count] = seconds(draw) / count
    best = min(each, key=lambda count: each[count])
    tflop = bench.figures.get("one_image", {}).get("tflop")
    return {"seconds_an_image": each, "best": best} | _rate(bench, tflop, each[best])


def concurrency(bench: Bench) -> Figures:
    """Compare requests at once through the engine with one after another through diffusers."""
    use, count = {"x": bench.concept()}, bench.size.requests
    engine = Engine(lambda: bench.base)
    engine.start()

    def together() -> None:
        image_request = ImageRequest(prompt=_PROMPT, concepts=use, config=bench.images(1))
        for request in [engine.submit(image_request) for _ in range(count)]:
            request.result()

    try:
        times = in_rounds(
            {
                "engine": together,
                "one after another": lambda: [_by_diffusers(bench, 1) for _ in range(count)],
            },
            max(1, bench.size.rounds - 3),
        )
    finally:
        engine.stop()
    return {
        "requests": count,
        **{f"{name}_seconds": statistics.median(own) for name, own in times.items()},
        "times_as_many_a_second": ratio(times["one after another"], times["engine"]),
    }


def memory(bench: Bench) -> Figures:
    """Measure a training step's memory beyond the weights, by batch, whole and recomputing."""
    found: Figures = {"weights": _weights(bench.base)}
    for batch in (1, bench.size.batch):
        for recomputes in (False, True):
            training = bench.training(batch)
            training.loss.recomputes = recomputes
            found[f"batch {batch}{', recomputing' if recomputes else ''}"] = _costs(training)
    return found


def compiled(bench: Bench) -> Figures:
    """Measure compiling the U-Net for training, and a step after it."""
    found: Figures = {}
    for mode in bench.size.compile_modes:
        training = bench.training(bench.size.batch)
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        bench.base.unet.compile(mode=mode, dynamic=False)
        try:
            first = _step_seconds(training, 1, warm_up=0)
            taken = _step_seconds(training, bench.size.timed_steps)
        finally:
            bench.base.unet._compiled_call_impl = None
        tflop = bench.figures.get("options", {}).get("tflop_a_step")
        found[mode] = {
            "compiling_seconds": first,
            "seconds": taken,
            "graph_breaks": sum(torch._dynamo.utils.counters["graph_break"].values()),
            **_rate(bench, tflop, taken),
        }
    return found


def others(bench: Bench) -> Figures:
    """Measure memory and time of other base models, each at the size that it was trained at."""
    found: Figures = {}
    for shape in bench.size.others:
        base, _ = load(shape, bench.device, bench.size.captions)
        config = bench.images(1)
        found[shape] = {
            "side": base.default_resolution,
            "weights": _weights(base),
            "step": _costs(bench.training(1, base)),
            "image_peak_bytes": peak_bytes(partial(generate, base, _PLAIN, config=config)),
        }
    return found


# Upper estimates of each stage's seconds on an H200: with less time left it is skipped.
STAGES: Mapping[Callable[[Bench], Figures], float] = {
    matrix: 5, options: 60, whole_training: 60, rivals: 40, one_image: 40, batches: 40,
    concurrency: 90, memory: 30, others: 60, compiled: 150,
}  # fmt: skip


def _switches(bench: Bench) -> dict[str, tuple[Work, Work]]:
    unet = bench.base.unet

    def precision(name: str) -> Work:
        return lambda: torch.set_float32_matmul_precision(name)

    def tried(value: bool) -> Work:
        return lambda: setattr(torch.backends.cudnn, "benchmark", value)

    return {
        "channels-last": (
            lambda: unet.to(memory_format=torch.channels_last),
            lambda: unet.to(memory_format=torch.contiguous_format),
        ),
        "cudnn.benchmark": (tried(True), tried(False)),
        "TF32 in the text encoder and the edit": (precision("high"), precision("highest")),
    }


@contextmanager
def _autocast(base: BaseModel) -> Iterator[None]:
    """The U-Net's weights in float32, cast at each operation instead of once."""
    unet = base.unet.float()

    def cast(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(
            base.device.type, dtype=base.dtype, enabled=base.dtype != torch.float32
        ):
            return unet(*args, **kwargs)

    base.unet = cast
    try:
        yield
    finally:
        base.unet = unet.to(base.dtype)


def _step_seconds(training: Training, count: int, *, warm_up: int = 2) -> float:
    for _ in range(warm_up):
        next(training)
    return statistics.median(seconds(lambda: next(training)) for _ in range(count))


def _costs(training: Training) -> Figures:
    taken = _step_seconds(training, 2)
    return {"seconds": taken, "peak_bytes": peak_bytes(lambda: next(training))}


def _by_diffusers(bench: Bench, count: int) -> object:
    return bench.pipeline(
        [_PLAIN] * count, num_inference_steps=bench.size.image_steps, guidance_scale=7.5,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip


def _rate(bench: Bench, tflop: float | None, taken: float) -> Figures:
    """Return how much of the card's matrix rate was reached, if both are known."""
    rates = bench.figures.get("matrix", {}).get("tflops_a_second")
    if tflop is None or rates is None:
        return {}
    own = tflop / taken
    half = rates[str(torch.bfloat16).removeprefix("torch.")]
    return {"tflops_a_second": own, "of_the_cards_bfloat16_rate": own / half}


def _weights(base: BaseModel) -> Figures:
    modules = {"unet": [base.unet], "text": base.text.encoders, "vae": [base.vae]}
    return {
        name: sum(w.numel() * w.element_size() for module in own for w in module.parameters())
        for name, own in modules.items()
    }
