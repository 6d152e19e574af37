"""What this software reaches on one GPU: every figure in one call of at most nine minutes.

    python -m benchmarks.gpu [--out FOLDER] [--minutes 9]   # needs a CUDA GPU, and no download
    python -m benchmarks.gpu --shape shipped                # the shipped base model's shape instead
    python -m benchmarks.gpu --dry-run                      # every stage at a toy's size, anywhere

The base model is random, by default in Stable Diffusion 1.5's shape. Stages run in order of
importance. Each writes its figures to gpu.json at once, so a run that is cut short keeps them. A
stage without enough time left is skipped, and one that fails is reported with its error;
the others go on.
"""

import argparse
import json
import time
from pathlib import Path
from typing import get_args

import torch
from PIL import Image

from benchmarks.gpu.bench import DRY, Bench, Figures, Size, load
from benchmarks.gpu.report import table
from benchmarks.gpu.stages import STAGES
from benchmarks.shapes import Shape


def run(size: Size, *, device: torch.device, out: Path, until: float) -> Figures:
    """Every stage; `until` is when to stop, in seconds of `time.monotonic`."""
    base, pipeline = load(size.shape, device, size.captions)
    side = base.default_resolution
    picture = Image.effect_noise((side, side), 64).convert("RGB")
    bench = Bench(size, device, pipeline, base, picture)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    bench.figures |= {
        "device": f"{card}, torch {torch.__version__}", "dtype": str(base.dtype), "side": side,
        "batch": size.batch, "steps": size.steps,
    }  # fmt: skip
    for stage, most_seconds in STAGES.items():
        name = stage.__name__
        begun = time.monotonic()
        if size is not DRY and begun + most_seconds > until:
            bench.figures[name] = {"skipped": "no time was left"}
        else:
            try:
                bench.figures[name] = stage(bench)
            except Exception as error:
                bench.figures[name] = {"failed": f"{type(error).__name__}: {error}"[:500]}
            bench.figures[name]["stage_seconds"] = round(time.monotonic() - begun, 1)
        (out / "gpu.json").write_text(json.dumps(bench.figures, indent=1))
        print(f"{name}: {json.dumps(bench.figures[name])}", flush=True)
    return bench.figures


def main() -> None:
    """Measure, write gpu.json, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="every stage at a toy's size")
    parser.add_argument("--shape", choices=get_args(Shape), default=Size().shape)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--minutes", type=float, default=9.0)
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("no CUDA GPU is here; --dry-run goes through every stage without one")
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu" if arguments.dry_run else "cuda")
    size = DRY if arguments.dry_run else Size(shape=arguments.shape)
    print(table(run(size, device=device, out=arguments.out, until=until)))


if __name__ == "__main__":
    main()
