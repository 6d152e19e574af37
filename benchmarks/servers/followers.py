"""What following a job costs and tells: previews of a generation, the estimate of a training.

    python -m benchmarks.servers.followers [--rounds N] [--images N] [--steps N] [--train-steps N]
                                   [--out FOLDER]

A worker of this process runs the jobs. Each round generates once while a client asks for previews
and once without such a client. The ratio of the two times is taken within a round, and the median
is printed. The images must be equal. Then a training is followed: each line has its phase, the
seconds that it has taken, the estimate of the seconds left, and the seconds that were left in
truth. `--out` gets the previews of the last round and the image, next to each other.
"""

import argparse
import base64
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from PIL import Image

import migrations
from api.demo.subjects import SUBJECTS, photograph
from service import log, wiring
from service.concepts import use_cases as concepts
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import live_previews
from service.jobs import use_cases as jobs
from service.jobs.views import EventPreviews, JobView
from service.pictures import uploads
from service.settings.environment import Settings
from service.statuses import JobStatus, Queue
from service.wiring import Service
from worker import context as composition
from worker.context import WorkerContext
from worker.runner import Runner

_OWNER = "local"
_POLL_SECONDS = 0.25  # as event streams do


def main() -> None:
    """Print the figures of both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--train-steps", type=int)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.model_validate({"data_dir": folder})
        log.configure(settings.model_copy(update={"log_level": "warning"}))
        migrations.upgrade(settings.database_url)
        service = wiring.build(settings)
        context = composition.build(service)
        context.model_loader.start()
        assert context.model_loader.wait()
        context.engine.start()
        _generate(service, context, arguments)
        _train(service, context, steps=arguments.train_steps)
        context.engine.stop()
        service.close()


def _generate(service: Service, context: WorkerContext, arguments: argparse.Namespace) -> None:
    ratios: list[float] = []
    for number in range(arguments.rounds + 1):
        seen: list[EventPreviews] = []

        def watch(job: JobView, seen: list[EventPreviews] = seen) -> None:
            previews = live_previews.watch(service, _OWNER, job_id=job.id)
            if previews is not None and previews not in seen:
                seen.append(previews)

        seconds, files = {}, {}
        order = [("watched", watch), ("alone", lambda _: None)]
        for name, follow in order if number % 2 else reversed(order):
            options = {"num_images": arguments.images, "num_inference_steps": arguments.steps}
            body = GenerateRequest(
                prompt="a photo of a dog on the beach", **{**options, "seed": number}
            )
            job_id = str(generations.request(service, _OWNER, body=body).body["job"]["id"])
            seconds[name], job = _follow(service, context, Queue.GENERATE, job_id, follow)
            files[name] = [
                jobs.read_image(service, _OWNER, image_id=image.id).data for image in job.images
            ]
        assert files["watched"] == files["alone"], "previews changed an image"
        if number:  # the first round warms up
            ratios.append(seconds["watched"] / seconds["alone"])
            sizes = [len(previews.model_dump_json()) for previews in seen]
            print(
                f"watched {seconds['watched']:.2f} s, alone {seconds['alone']:.2f} s, "
                f"{len(seen)} previews of at most {max(sizes, default=0)} bytes",
                flush=True,
            )
    print(f"watched / alone: {statistics.median(ratios):.3f}, the images are equal", flush=True)
    if arguments.out is not None:
        urls = [previews.preview for previews in seen]
        jpegs = [base64.b64decode(url.partition(",")[2]) for url in urls]
        _save_sheet([*jpegs, files["alone"][0]], arguments.out)


def _train(service: Service, context: WorkerContext, *, steps: int | None) -> None:
    pictures = []
    for photo in photograph(SUBJECTS[0]):
        file = io.BytesIO()
        photo.picture.save(file, "PNG")
        pictures.append(file.getvalue())
    answer = concepts.create(
        service,
        _OWNER,
        name="rex",
        superclass=SUBJECTS[0].superclass,
        pictures=uploads.read_pictures(service, images=pictures),
        training={} if steps is None else {"max_train_steps": steps},
    )
    told: list[tuple[float, str, float | None]] = []
    began = time.monotonic()

    def note(job: JobView) -> None:
        phase, eta = job.progress.phase, job.progress.eta_seconds
        told.append((time.monotonic() - began, phase.value if phase else "-", eta))

    total, job = _follow(service, context, Queue.TRAIN, str(answer.body["job"]["id"]), note)
    print(f"training: {job.status.value} after {total:.1f} s")
    due = 0.0
    for at, phase, eta in told:
        if at >= due:
            due = at + total / 20
            estimate = "unknown" if eta is None else f"{eta:.1f}"
            print(f"{phase:11} {at:6.1f} s, estimate {estimate:>7} s, truth {total - at:6.1f} s")


def _follow(
    service: Service,
    context: WorkerContext,
    queue: Queue,
    job_id: str,
    act: Callable[[JobView], None],
) -> tuple[float, JobView]:
    """Run the job; return its seconds and its end; call `act` now and then while it runs."""
    thread = Thread(target=Runner(context).run, args=(queue,))
    thread.start()
    while thread.is_alive():
        act(jobs.get(service, _OWNER, job_id=job_id))
        thread.join(_POLL_SECONDS)
    job = jobs.get(service, _OWNER, job_id=job_id)
    assert job.status is JobStatus.SUCCEEDED, job
    assert job.started_at is not None and job.finished_at is not None
    return max((job.finished_at - job.started_at).total_seconds(), 1e-9), job


def _save_sheet(files: list[bytes], folder: Path) -> None:
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
    sheet = Image.new("RGB", (sum(image.width for image in images), images[-1].height), "white")
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / "previews.png")


if __name__ == "__main__":
    main()
