"""A 4 x 4 sweep as one job, next to 16 images in one request and to 16 single jobs.

    OMP_NUM_THREADS=1 python -m benchmarks.servers.sweeps [--rounds N] [--steps N]

The jobs go through the service and a real worker (SQLite, blobs in a folder): from the acceptance
to the stored images. The sweep varies the bias of a concept and the seed. The 16 single jobs are
the sweep's cells, one after the other, as a client without sweeps sends them. Ratios are taken
within a round; the medians are printed, and each round. Then the largest difference between a
cell and its single job, in grey levels. `--processor-time` measures this process's processor time,
for a machine with other programs at work.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

import migrations
from benchmarks.staging import SHIPPED, untrained
from perfusion_core import BaseModel
from service import wiring
from service.concepts import imports
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.jobs.views import ImageView
from service.settings.environment import Settings
from service.statuses import JobStatus, Queue
from service.wiring import Service
from worker import context as composition
from worker.context import WorkerContext
from worker.runner import Runner

_OWNER = "benchmark"
_BETAS = (0.9, 0.7, 0.5, 0.3)
_SEEDS = (1, 2, 3, 4)
_PROMPT = "a photo of <dog> on the beach"
_AXES = [{"field": "beta:dog", "values": _BETAS}, {"field": "seed", "values": _SEEDS}]


def main() -> None:
    """Print one line for each round, the median ratios and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(SHIPPED))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="default: the base model's")
    parser.add_argument("--processor-time", action="store_true")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.processor_time else time.perf_counter
    base = BaseModel.load(arguments.base_model)
    with tempfile.TemporaryDirectory() as folder:
        migrations.upgrade(f"sqlite:///{folder}/perfusion.db")
        service = wiring.build(Settings.model_validate({"data_dir": folder, "evaluator": "none"}))
        context = _worker(service, base)
        imports.import_file(service, _OWNER, data=untrained(base, "dog").to_bytes(), name="dog")
        options = {} if arguments.steps is None else {"num_inference_steps": arguments.steps}
        _measure(context, options, rounds=arguments.rounds, clock=clock)
        context.engine.stop()
        service.close()


def _measure(
    context: WorkerContext, options: dict[str, Any], *, rounds: int, clock: Callable[[], float]
) -> None:
    _run(context, num_images=4, **options)  # warm
    to_many, to_single, apart = [], [], 0
    for number in range(rounds):
        begun = clock()
        swept = _run(context, sweep={"axes": _AXES}, **options)
        sweep_s, begun = clock() - begun, clock()
        _run(context, num_images=16, seed=1, **options)
        many_s, begun = clock() - begun, clock()
        single = [
            _run(context, seed=seed, concepts=[{"name": "dog", "beta": beta}], **options)[0]
            for seed in _SEEDS
            for beta in _BETAS
        ]
        single_s = clock() - begun
        to_many.append(sweep_s / many_s)
        to_single.append(sweep_s / single_s)
        apart = max([apart, *map(_difference, *_read(context.service, swept, single))])
        print(
            f"round {number + 1}: sweep {sweep_s:.2f} s, 16 images in one request {many_s:.2f} s "
            f"({to_many[-1]:.2f} x), 16 jobs {single_s:.2f} s ({to_single[-1]:.2f} x)",
            flush=True,
        )
    print(
        f"median: {statistics.median(to_many):.2f} x 16 images in one request, "
        f"{statistics.median(to_single):.2f} x 16 single jobs; "
        f"largest difference {apart} grey levels"
    )


def _worker(service: Service, base: BaseModel) -> WorkerContext:
    context = composition.build(service, base=base)
    context.model_loader.start()
    assert context.model_loader.wait(timeout_seconds=600)
    context.engine.start()
    return context


def _run(context: WorkerContext, **fields: Any) -> tuple[ImageView, ...]:
    """Accept a request and work until its job has ended; return its images."""
    body = GenerateRequest.read({"prompt": _PROMPT, **fields})
    answer = generations.request(context.service, _OWNER, body=body)
    Runner(context).run(Queue.GENERATE)
    job = jobs.get(context.service, _OWNER, job_id=answer.body["job"]["id"])
    assert job.status is JobStatus.SUCCEEDED, job.error
    return job.images


def _read(service: Service, *images: tuple[ImageView, ...] | list[ImageView]) -> list[list[bytes]]:
    return [
        [jobs.read_image(service, _OWNER, image_id=image.id).data for image in group]
        for group in images
    ]


def _difference(first: bytes, second: bytes) -> int:
    pixels = [np.asarray(Image.open(io.BytesIO(png)), np.int16) for png in (first, second)]
    return int(np.abs(pixels[0] - pixels[1]).max())


if __name__ == "__main__":
    main()
