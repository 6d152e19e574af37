"""Measure how long a caller waits for `GET /jobs/{id}` while the same process trains.

    python -m benchmarks.servers.answers [--requests N]

The embedded default starts with an empty data folder. The benchmark asks for one job before and
during a training, and prints median and 95th percentile of both.
"""

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path

from api.cli.demo import server
from api.demo.client import Client, File
from api.demo.subjects import SUBJECTS, photograph


def main() -> None:
    """Print both lines and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        client = Client(url)
        idle_job = client.generate(prompt="a photo of a cat", num_inference_steps=1)
        client.wait(idle_job, lambda _: None)
        idle = _milliseconds(client, idle_job["id"], arguments.requests)
        training = client.create_concept(_fields(), _files())
        while client.get(f"/jobs/{training['id']}")["progress"]["step"] < 1:
            time.sleep(0.2)
        busy = _milliseconds(client, training["id"], arguments.requests)
        status = client.get(f"/jobs/{training['id']}")["status"]
        if status != "running":
            raise SystemExit(
                f"The training was {status} before the last request: use fewer --requests."
            )
    for name, times in (("idle", idle), ("while a training runs", busy)):
        p95 = statistics.quantiles(times, n=20)[-1]
        print(f"GET /jobs/{{id}}, {name}: median {statistics.median(times):.1f} ms, "
              f"p95 {p95:.1f} ms")  # fmt: skip


def _milliseconds(client: Client, job_id: str, requests: int) -> list[float]:
    times = []
    for _ in range(requests):
        begun = time.perf_counter()
        client.get(f"/jobs/{job_id}")
        times.append(1000 * (time.perf_counter() - begun))
        time.sleep(0.02)
    return times


def _fields() -> dict[str, str]:
    training = '{"max_train_steps": 2000}'
    return {"name": "benchmark", "superclass": SUBJECTS[0].superclass, "training": training}


def _files() -> list[File]:
    files: list[File] = []
    for k, photo in enumerate(photograph(SUBJECTS[0])):
        buffer = io.BytesIO()
        photo.picture.save(buffer, "PNG")
        files.append(("images", (f"{k}.png", buffer.getvalue())))
    return files


if __name__ == "__main__":
    main()
