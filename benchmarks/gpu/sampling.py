"""Stages of benchmarks/gpu/__main__.py that sample; each returns its figures."""

import hashlib
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks import concurrency, steps
from benchmarks.gpu.bench import Bench, Figures, rate
from benchmarks.measure import Work, flops, in_rounds, ratio, seconds
from benchmarks.servers.tenants import OF_DIFFUSERS, Shop, at_random, requests_of
from benchmarks.staging import SHIPPED, image_request, untrained
from perfusion_core.backends.backend import example_input
from perfusion_core.backends.choice import choose_backend
from perfusion_core.devices.options import DeviceOptions
from perfusion_core.sampling.png import encode
from perfusion_core.sampling.sampler import (
    ImageRequest,
    decode,
    decode_together,
    generate,
    start,
    step,
)
from perfusion_core.sampling.trajectories import Batch
from worker.engine.engine import Engine

_PROMPT = "a photo of a <x> on the beach"
_PLAIN = "a photo of a teddy on the beach"


def shipped_steps(bench: Bench) -> Figures:
    """Compare a guided step of the shipped model with diffusers' own, for one image and for 8."""
    base = bench.shipped
    concepts = [untrained(base, name) for name in ("teddy", "robot", "dog")]
    kept = (steps.PLAIN_FLOAT32, steps.PLAIN, steps.OURS, steps.OURS_IN_TORCH, steps.LORA)
    found: Figures = {"backend": f"{base.backend.name} {base.backend.precision}"}
    for images in (1, 8):
        works = steps.variants(base, SHIPPED, concepts, images=images)
        times = steps.compare(
            {name: work for name, work in works.items() if name in kept}, rounds=bench.size.rounds
        )
        reference = times.get(steps.PLAIN_FLOAT32, times[steps.PLAIN])
        found[f"{images} at once"] = {
            name: {"seconds": statistics.median(own), "of_float32": ratio(own, reference)}
            for name, own in times.items()
        }
    return found


def shipped_concurrency(bench: Bench) -> Figures:
    """Compare 16 requests of 16 concepts in the engine with diffusers and LoRA, one by one."""
    rounds = concurrency.measure(
        bench.shipped, SHIPPED, rounds=max(1, bench.size.rounds - 2), requests=bench.size.requests
    )
    return {
        "times_as_many_a_second": concurrency.times_as_many_a_second(rounds),
        "lines": list(concurrency.lines(rounds)),
    }


def tenants(bench: Bench) -> Figures:
    """Measure images per second against the number of tenants, each with a concept."""
    found: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        most = max(bench.size.tenants)
        shop = Shop(bench.shipped, Path(folder), base_model=str(SHIPPED), tenants=most)
        few = bench.size.requests
        shop.by_engine([0] * few, shop.new_cache())
        for count in bench.size.tenants:
            cache = shop.new_cache()
            of_ours = bench.size.tenant_requests or requests_of(count)
            ours = shop.by_engine(at_random(count, of_ours), cache)
            of_theirs = bench.size.tenant_requests or OF_DIFFUSERS
            theirs = shop.one_by_one(at_random(count, of_theirs), cache)
            found[f"{count} tenants"] = {
                "images_per_second": ours.images_per_second,
                "median_seconds": ours.median_seconds,
                "diffusers_one_by_one": theirs.images_per_second,
            }
    return found


def interactive(bench: Bench) -> Figures:
    """Measure an image of 8 steps of the shipped model, from the request to the PNG."""
    base = bench.shipped
    engine = Engine(lambda: base)
    engine.start()
    config = base.defaults.generate_config({"num_inference_steps": 8, "num_images": 1, "seed": 1})
    concept = untrained(base, "teddy")
    request = image_request([concept], config)
    digest = hashlib.sha256(concept.to_bytes()).hexdigest()

    def draw() -> None:
        (sample,) = engine.submit(request).result()
        encode(sample, request=request, concept_hashes={concept.name: digest}, base=base)

    try:
        draw()
        return {"seconds": statistics.median(seconds(draw) for _ in range(2 * bench.size.rounds))}
    finally:
        engine.stop()


def backends(bench: Bench) -> Figures:
    """Measure the U-Net in torch and as graphs, and whether a step waits for the device."""
    base = bench.base
    chosen = base.backend
    found: Figures = {"chosen": chosen.name, "a step waits": _waits(bench)}
    for rows in bench.size.rows:
        given = example_input(
            base.unet,
            rows=rows,
            side=int(base.unet.config.sample_size),
            tokens=77,
            packed_width=base.packed_width,
        ).map(lambda tensor: tensor.to(base.device))
        times = in_rounds(
            {"torch": partial(base.eager, given), "graph": partial(chosen, given)},
            bench.size.rounds,
        )
        found[f"{rows} rows"] = {
            "torch_seconds": statistics.median(times["torch"]),
            "seconds": statistics.median(times["graph"]),
            "ratio": ratio(times["graph"], times["torch"]),
        }
    return found


def compiled_images(bench: Bench) -> Figures:
    """Measure the best batch again with the compiled backend, and what compiling takes."""
    if not bench.size.compile_modes:
        return {}
    base = bench.base
    chosen, count = base.backend, bench.figures.get("batches", {}).get("best", 8)
    begun = time.monotonic()
    base.backend = choose_backend(
        base.unet,
        DeviceOptions(backend="compiled"),
        device=base.device,
        packed_width=base.packed_width,
    )
    try:
        draw = _draws(bench, count)
        draw()
        compiling = time.monotonic() - begun
        taken = statistics.median(seconds(draw) for _ in range(3)) / count
    finally:
        base.backend = chosen
    return {"compiling_seconds": compiling, "batch": count, "seconds_an_image": taken}


def _waits(bench: Bench) -> str:
    """Return what made a step wait for the GPU, as torch tells it; "no" if nothing did."""
    use = {"x": bench.concept()}
    trajectories = start(
        bench.base, ImageRequest(prompt=_PROMPT, concepts=use, config=bench.images(1))
    )
    step(bench.base, trajectories)
    if bench.device.type != "cuda":
        return "not measured"
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(bench.base, trajectories)
    except RuntimeError as error:
        return str(error)[:200]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "no"


def _draws(bench: Bench, count: int) -> Work:
    """Return the sampling of so many images at once, with a concept."""
    use = {"x": bench.concept()}
    request = ImageRequest(prompt=_PROMPT, concepts=use, config=bench.images(count))

    def draw() -> None:
        trajectories = start(bench.base, request)
        batch = Batch(trajectories)
        while not trajectories[0].finished:
            step(bench.base, batch)
        decode_together(bench.base, trajectories)

    return draw


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
        **rate(bench, tflop, taken),
    }


def batches(bench: Bench) -> Figures:
    """Measure the seconds per image of several at once, and find the batch with the fewest."""
    each = {}
    for count in bench.size.images:
        draw = _draws(bench, count)
        draw()
        each[count] = seconds(draw) / count
    best = min(each, key=lambda count: each[count])
    tflop = bench.figures.get("one_image", {}).get("tflop")
    return {"seconds_an_image": each, "best": best} | rate(bench, tflop, each[best])


def requests_at_once(bench: Bench) -> Figures:
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


def _by_diffusers(bench: Bench, count: int) -> object:
    return bench.pipeline(
        [_PLAIN] * count, num_inference_steps=bench.size.image_steps, guidance_scale=7.5,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
