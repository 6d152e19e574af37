"""The figures of benchmarks/gpu/__main__.py as a table, with the targets."""

from collections.abc import Iterator
from typing import Any

Figures = dict[str, Any]

_WISHED_SECONDS = 40.0  # for 400 steps of 16 pictures at 512 pixels, on an H200


def table(figures: Figures) -> str:
    """Tabulate one line per figure; skipped and failed stages say so."""
    lines = [f"{figures['device']}, {figures['dtype']}, {figures['side']} px"]
    for name, own in figures.items():
        if not isinstance(own, dict):
            continue
        if reason := own.get("skipped") or own.get("failed"):
            lines.append(f"{name}: {'skipped' if 'skipped' in own else 'failed'}, {reason}")
        else:
            lines += [f"{name}: {line}" for line in _LINES[name](own, figures)]
    return "\n".join(lines)


def _matrix(own: Figures, _all: Figures) -> Iterator[str]:
    for dtype, rate in own["tflops_a_second"].items():
        yield f"{rate:.2f} TFLOP/s in {dtype}"


def _shipped_steps(own: Figures, _all: Figures) -> Iterator[str]:
    for at_once, ways in _parts(own):
        for name, way in ways.items():
            yield (
                f"{at_once}, {name}: {1000 * way['seconds']:.1f} ms, {way['of_float32']:.2f} x "
                "diffusers in float32"
            )


def _backends(own: Figures, _all: Figures) -> Iterator[str]:
    yield f"{own['chosen']} was chosen; a step waits: {own['a step waits']}"
    for rows, run in _parts(own):
        yield f"{rows}: {1000 * run['seconds']:.1f} ms, {run['ratio']:.2f} x torch's time"


def _shipped_concurrency(own: Figures, _all: Figures) -> Iterator[str]:
    yield from own["lines"]


def _tenants(own: Figures, _all: Figures) -> Iterator[str]:
    for name, run in _parts(own):
        yield (
            f"{name}: {run['images_per_second']:.1f} images/s, median {run['median_seconds']:.2f} "
            f"s; diffusers one by one {run['diffusers_one_by_one']:.1f} images/s"
        )


def _interactive(own: Figures, _all: Figures) -> Iterator[str]:
    yield f"{1000 * own['seconds']:.0f} ms from the request to the PNG, 8 steps"


def _compiled_images(own: Figures, _all: Figures) -> Iterator[str]:
    if "batch" in own:
        yield (
            f"{own['seconds_an_image']:.3f} s an image, {own['batch']} at once, after "
            f"{own['compiling_seconds']:.0f} s of compiling"
        )


def _options(own: Figures, figures: Figures) -> Iterator[str]:
    for name, taken in own["seconds"].items():
        yield f"{1000 * taken:.1f} ms a step, {name}"
    whole = own["best_seconds"] * figures["steps"]
    yield (
        f"{own['tflop_a_step']:.2f} TFLOP a step{_rate(own)}; {figures['steps']} steps of "
        f"{figures['batch']} would take {whole:.1f} s (extrapolated)"
    )


def _whole_training(own: Figures, figures: Figures) -> Iterator[str]:
    wished = f", wished for: at most {_WISHED_SECONDS:.0f} s" if figures["side"] == 512 else ""
    yield (
        f"{own['seconds']:.1f} s for {figures['steps']} steps of {figures['batch']}, examples and "
        f"all{wished}; at most {_gb(own['peak_bytes'])} beyond the weights"
    )


def _rivals(own: Figures, _all: Figures) -> Iterator[str]:
    for name, run in _parts(own):
        yield (
            f"{name} {1000 * run['seconds']:.1f} ms a step, {_gb(run['peak_bytes'])}; ours "
            f"takes {run['ours_takes_of_its_time']:.2f} x its time and "
            f"{run['ours_takes_of_its_memory']:.2f} x its memory"
        )


def _one_image(own: Figures, _all: Figures) -> Iterator[str]:
    yield (
        f"{own['seconds']:.2f} s ({own['decoding_seconds']:.3f} s of it to decode), "
        f"{own['tflop']:.2f} TFLOP{_rate(own)}; {own['ours_takes_of_its_time']:.2f} x the time of "
        f"diffusers, {own['diffusers_seconds']:.2f} s"
    )


def _batches(own: Figures, _all: Figures) -> Iterator[str]:
    for count, taken in own["seconds_an_image"].items():
        yield f"{taken:.3f} s an image, {count} at once"
    yield f"best: {own['best']} at once{_rate(own)}"


def _requests_at_once(own: Figures, _all: Figures) -> Iterator[str]:
    yield (
        f"{own['requests']} requests take {own['engine_seconds']:.2f} s in the engine and "
        f"{own['one after another_seconds']:.2f} s one after another through diffusers: "
        f"{own['times_as_many_a_second']:.2f} x as many a second"
    )


def _memory(own: Figures, _all: Figures) -> Iterator[str]:
    yield f"weights: {_weights(own['weights'])}"
    for name, run in own.items():
        if name.startswith("batch"):
            yield f"{name}: {_gb(run['peak_bytes'])}, {1000 * run['seconds']:.1f} ms a step"


def _others(own: Figures, _all: Figures) -> Iterator[str]:
    for name, run in _parts(own):
        yield (
            f"{name} at {run['side']} px: {_weights(run['weights'])}; beyond them a training "
            f"step of one picture {_gb(run['step']['peak_bytes'])} and "
            f"{1000 * run['step']['seconds']:.1f} ms, an image {_gb(run['image_peak_bytes'])}"
        )


def _compiled(own: Figures, _all: Figures) -> Iterator[str]:
    for mode, run in _parts(own):
        yield (
            f"{mode}: {1000 * run['seconds']:.1f} ms a step{_rate(run)}, after "
            f"{run['compiling_seconds']:.0f} s of compiling, {run['graph_breaks']} graph breaks"
        )


_LINES = {
    "matrix": _matrix,
    "shipped_steps": _shipped_steps,
    "backends": _backends,
    "shipped_concurrency": _shipped_concurrency,
    "tenants": _tenants,
    "interactive": _interactive,
    "compiled_images": _compiled_images,
    "options": _options,
    "whole_training": _whole_training,
    "rivals": _rivals,
    "one_image": _one_image,
    "batches": _batches,
    "requests_at_once": _requests_at_once,
    "memory": _memory,
    "others": _others,
    "compiled": _compiled,
}


def _parts(own: Figures) -> Iterator[tuple[str, Figures]]:
    return ((name, part) for name, part in own.items() if isinstance(part, dict))


def _rate(own: Figures) -> str:
    if "tflops_a_second" not in own:
        return ""
    return (
        f" ({own['tflops_a_second']:.2f} TFLOP/s, {100 * own['of_the_cards_bfloat16_rate']:.0f} % "
        "of the matrix rate in bfloat16)"
    )


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _weights(own: dict[str, int]) -> str:
    return ", ".join(f"{name} {_gb(count)}" for name, count in own.items())
