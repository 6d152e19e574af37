"""Sixteen requests with sixteen concepts, through the engine and one by one through diffusers.

    python -m benchmarks.concurrency [--base-model FOLDER] [--rounds N] [--requests N] [--rows N]

Requests arrive at random (exponential gaps, seeded, a quarter of a lone image's time on average),
at the same times for both ways. Through diffusers each waits for the one before, and switches to
its own LoRA adapter (peft, unfused, all of them loaded beforehand). Through the engine they share
batches. After half of them a lone request of another owner arrives. Its time is compared with an
idle engine's, once with all other requests of one owner, once with each of an owner of its own.
Ratios are taken within a round; medians over rounds are printed.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.staging import KINDS, SHIPPED, image_request, pipeline_of, untrained
from perfusion_core import BaseModel, Concept
from perfusion_core.sampling.sampler import ImageRequest
from worker.engine.engine import Engine
from worker.engine.requests import Request

_SEED = 11


@dataclass(frozen=True)
class Crowd:
    """When each request arrived and ended, in seconds since the first one's arrival."""

    arrivals: Sequence[float]
    ends: Sequence[float]
    lone: float = 0.0  # seconds that the lone request took
    alone: float = 0.0  # seconds that it takes in an idle engine

    @property
    def images_per_second(self) -> float:
        """From the first arrival to the last end."""
        return len(self.ends) / max(self.ends)

    @property
    def latency(self) -> float:
        """The median request's."""
        return statistics.median(b - a for a, b in zip(self.arrivals, self.ends, strict=True))


Round = tuple[Crowd, Crowd, Crowd]
"""Diffusers, the engine with one owner, and the engine with an owner for each request."""


def main() -> None:
    """Print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(SHIPPED))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=len(KINDS))
    parser.add_argument("--rows", type=int, help="most rows of a U-Net batch; the engine's own")
    arguments = parser.parse_args()
    for line in lines(
        measure(
            BaseModel.load(arguments.base_model),
            arguments.base_model,
            rounds=arguments.rounds,
            requests=arguments.requests,
            rows=arguments.rows,
        )
    ):
        print(line)


def measure(
    base: BaseModel,
    base_model: str | Path,
    *,
    rounds: int,
    requests: int,
    rows: int | None = None,
) -> list[Round]:
    """Return what each round took."""
    concepts = [untrained(base, kind) for kind in KINDS[:requests]]
    pipeline = pipeline_of(base_model, base, adapters=KINDS[:requests])
    gaps = np.random.default_rng(_SEED).exponential(size=len(concepts) - 1)

    def through_engine(arrivals: Sequence[float], owner_of: Callable[[int], str]) -> Crowd:
        # An engine's thread has OpenMP threads of its own, and with more threads than cores all of
        # them are slow. So diffusers has the process for itself.
        engine = Engine(lambda: base, max_rows=rows)
        engine.start()
        _alone(base, engine, concepts[0])
        before = _alone(base, engine, concepts[0])
        crowd = _together(base, engine, concepts, arrivals, owner_of=owner_of)
        after = _alone(base, engine, concepts[0])
        engine.stop()
        return replace(crowd, alone=statistics.median([before, after]))

    _one_by_one(base, pipeline, concepts[:2], [0.0, 0.0])
    alone = through_engine([0.0] * len(concepts), str).alone
    found: list[Round] = []
    for _ in range(rounds):
        arrivals = [0.0, *(np.cumsum(gaps) * alone / 4).tolist()]
        found.append(
            (
                _one_by_one(base, pipeline, concepts, arrivals),
                through_engine(arrivals, lambda _: "crowd"),
                through_engine(arrivals, str),
            )
        )
    return found


def times_as_many_a_second(rounds: Sequence[Round]) -> float:
    """Return the engine's images per second over those of diffusers and peft, the median."""
    return statistics.median(
        engine.images_per_second / diffusers.images_per_second for diffusers, engine, _ in rounds
    )


def lines(rounds: Sequence[Round]) -> Iterator[str]:
    """Yield one line for each figure."""

    alone = statistics.median(ways[1].alone for ways in rounds)
    yield f"alone: {alone:.2f} s for an image; {len(rounds)} rounds"
    for place, name in enumerate(("diffusers and peft", "engine", "engine, each its own owner")):
        rates = [ways[place].images_per_second for ways in rounds]
        ratio = statistics.median(
            rate / ways[0].images_per_second for rate, ways in zip(rates, rounds, strict=True)
        )
        latency = statistics.median(ways[place].latency for ways in rounds)
        yield (
            f"{name}: {statistics.median(rates):.2f} images/s, {ratio:.2f} x; median latency "
            f"{latency:.1f} s"
        )
    for place, name in ((1, "one other owner's"), (2, "as many owners'")):
        lone = statistics.median(ways[place].lone / ways[place].alone for ways in rounds)
        yield f"a lone request under {name} crowd: {lone:.2f} x alone"


def _alone(base: BaseModel, engine: Engine, concept: Concept) -> float:
    begun = time.perf_counter()
    engine.submit(_asking(base, concept, 1)).result()
    return time.perf_counter() - begun


def _one_by_one(
    base: BaseModel, pipeline: Any, concepts: Sequence[Concept], arrivals: Sequence[float]
) -> Crowd:
    config = base.defaults.generate_config()
    begun = time.perf_counter()
    ends = []
    for number, (concept, arrival) in enumerate(zip(concepts, arrivals, strict=True)):
        time.sleep(max(0.0, begun + arrival - time.perf_counter()))
        pipeline.unet.set_adapters([concept.superclass])
        pipeline(
            f"a photo of a {concept.superclass}",
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
            generator=torch.Generator().manual_seed(number),
        )
        ends.append(time.perf_counter() - begun)
    return Crowd(arrivals, ends)


def _together(
    base: BaseModel,
    engine: Engine,
    concepts: Sequence[Concept],
    arrivals: Sequence[float],
    *,
    owner_of: Callable[[int], str],
) -> Crowd:
    begun = time.perf_counter()
    ends: dict[int, float] = {}
    requests: list[Request] = []

    def submit(number: int, concept: Concept, owner: str) -> None:
        request = engine.submit(_asking(base, concept, number), owner=owner)
        request.future.add_done_callback(
            lambda _: ends.setdefault(number, time.perf_counter() - begun)
        )
        requests.append(request)

    lone_begun = 0.0
    for number, now in enumerate(arrivals):
        time.sleep(max(0.0, begun + now - time.perf_counter()))
        submit(number, concepts[number], owner_of(number))
        if number == len(concepts) // 2:
            lone_begun = now
            submit(len(concepts), concepts[0], "lone")
    for request in requests:
        request.result()
    lone = ends.pop(len(concepts)) - lone_begun
    return Crowd(arrivals, [ends[number] for number in range(len(concepts))], lone)


def _asking(base: BaseModel, concept: Concept, seed: int) -> ImageRequest:
    return image_request([concept], base.defaults.generate_config({"seed": seed, "num_images": 1}))


if __name__ == "__main__":
    main()
