"""Images per second against the number of tenants: 1 to 10,000 concepts on one worker.

    OMP_NUM_THREADS=2 python -m benchmarks.servers.tenants [--tenants N ...] [--plot FILE]

Each tenant has one concept file in the store: a trained file with noise on its Values, under a key
of its own. Eight requests are in the engine at any time, as a worker takes them, each of a tenant
chosen at random; concepts go through the worker's cache, which is empty at first. The other way is
diffusers with peft, for each request the adapter of its tenant (rank 4, unfused): one by one, and
in batches of up to eight waiting requests of the same adapter. Its adapters are read from files,
and the 16 used last stay loaded. Both ways make images of the base model's size in 8 steps.
"""

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from benchmarks.staging import SHIPPED, pipeline_of, untrained
from perfusion_core import BaseModel, Concept, ConceptUse
from perfusion_core.sampling.sampler import ImageRequest
from service.blobs.local import LocalBlobs
from service.settings.environment import Settings
from worker.engine.engine import Engine
from worker.models.concept_cache import ConceptCache

STEPS = 8
_AT_ONCE = 8  # requests that a worker takes
TENANTS = (1, 100, 1_000, 10_000)
_REQUESTS = {10_000: 2_000}
_USUAL_REQUESTS = 512
OF_DIFFUSERS = 64  # requests for each of its points, since each one costs the same
_LOADED = 16
_ROUNDS = 4  # of all points in turn, so that other load falls on all of them alike
_PROMPT = "a photo of {} on the beach"
_PLOT = Path(__file__).parents[2] / "docs" / "benchmark" / "tenants.webp"


@dataclass
class Served:
    """What requests took, in seconds, and how long all of them took together."""

    each: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Images per second."""
        return len(self.each) / self.seconds

    @property
    def median_seconds(self) -> float:
        """The median request's seconds, from its arrival to its image."""
        return statistics.median(self.each)

    def add(self, other: "Served") -> None:
        """Add requests that were served at another time."""
        self.each += other.each
        self.seconds += other.seconds


def main() -> None:
    """Print one line for each number of tenants and way, and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(SHIPPED))
    parser.add_argument("--tenants", type=int, nargs="+", default=list(TENANTS))
    parser.add_argument("--requests", type=int, help="of each point; default: 512, 2,000 at most")
    parser.add_argument("--dollars-an-hour", type=float, default=0.1, help="price of the machine")
    parser.add_argument("--plot", type=Path, default=_PLOT)
    arguments = parser.parse_args()

    base = BaseModel.load(arguments.base_model)
    print(f"{base.backend.name} in {base.backend.precision}, {torch.get_num_threads()} threads")
    found: dict[str, dict[int, Served]] = {}
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(
            base,
            Path(folder),
            base_model=arguments.base_model,
            tenants=max(arguments.tenants),
        )
        ways: dict[str, Callable[[Sequence[int], ConceptCache], Served]] = {
            "engine": shop.by_engine,
            "diffusers and peft, one by one": shop.one_by_one,
            "diffusers and peft, equal adapters in a batch": shop.in_batches,
        }
        shop.by_engine([0] * (2 * _AT_ONCE), shop.new_cache())  # warms up
        caches = {tenants: shop.new_cache() for tenants in arguments.tenants}
        for number in range(_ROUNDS):
            for tenants in arguments.tenants:
                count = arguments.requests or requests_of(tenants)
                for way, run in ways.items():
                    asked = at_random(tenants, count if way == "engine" else OF_DIFFUSERS)
                    share = asked[number * len(asked) // _ROUNDS :][: len(asked) // _ROUNDS]
                    served = found.setdefault(way, {}).setdefault(tenants, Served())
                    served.add(run(share, caches[tenants]))
            print(f"\rround {number + 1} of {_ROUNDS}", end="", file=sys.stderr, flush=True)
    for way, rates in found.items():
        for tenants, served in rates.items():
            per_dollar = served.images_per_second * 3600 / arguments.dollars_an_hour
            print(
                f"{tenants} tenants, {way}, {len(served.each)} requests: "
                f"{served.images_per_second:.2f} images/s, {per_dollar:,.0f} a dollar, median "
                f"{served.median_seconds:.2f} s"
            )
    _draw(found, file=arguments.plot)


def requests_of(tenants: int) -> int:
    """Return the number of requests that are sent to so many tenants."""
    return _REQUESTS.get(tenants, _USUAL_REQUESTS)


def at_random(tenants: int, requests: int) -> list[int]:
    """Return the tenant of each request."""
    chosen: list[int] = np.random.default_rng(tenants).integers(tenants, size=requests).tolist()
    return chosen


class Shop:
    """The tenants' files, and the two ways to serve them."""

    def __init__(self, base: BaseModel, folder: Path, *, base_model: str, tenants: int) -> None:
        self._base = base
        self._blobs = LocalBlobs(folder / "blobs")
        self._settings = Settings(data_dir=str(folder))
        self._keys = [self._store(concept) for concept in _concepts(base, tenants)]
        self._adapters = folder / "adapters"
        self._pipeline = pipeline_of(base_model, base, adapters=["first"])
        self._pipeline.save_lora_weights(self._adapters, **_layers(self._pipeline))
        self._pipeline.unload_lora_weights()

    def _store(self, concept: Concept) -> tuple[str, str]:
        data = concept.to_bytes("float16")
        key = f"concepts/{concept.name}"
        self._blobs.put(key, data)
        return key, hashlib.sha256(data).hexdigest()

    def new_cache(self) -> ConceptCache:
        """Return an empty cache of a worker's usual size."""
        return ConceptCache(self._blobs, most_bytes=self._settings.concept_cache_bytes)

    def by_engine(self, chosen: Sequence[int], cache: ConceptCache) -> Served:
        """Serve the requests of these tenants through an engine."""
        engine = Engine(lambda: self._base)
        engine.start()
        config = self._base.defaults.generate_config(
            {"num_inference_steps": STEPS, "num_images": 1, "seed": 1}
        )

        def serve(tenant: int) -> float:
            begun = time.perf_counter()
            key, sha256 = self._keys[tenant]
            concept = cache.get(sha256, blob_key=key)
            request = ImageRequest(
                prompt=_PROMPT.format(concept.placeholder),
                concepts={concept.name: ConceptUse(concept, beta=0.7)},
                config=config,
            )
            engine.submit(request, owner=concept.name).result()
            return time.perf_counter() - begun

        begun = time.perf_counter()
        with ThreadPoolExecutor(_AT_ONCE) as clients:
            took = list(clients.map(serve, chosen))
        served = Served(took, time.perf_counter() - begun)
        engine.stop()
        return served

    def one_by_one(self, chosen: Sequence[int], _cache: ConceptCache) -> Served:
        """Serve the requests one after another; each waits for seven others before it."""
        return self._serve([[tenant] for tenant in chosen])

    def in_batches(self, chosen: Sequence[int], _cache: ConceptCache) -> Served:
        """Serve the requests eight at a time, those of the same tenant in one batch."""
        batches: list[list[int]] = []
        waiting = iter(chosen)
        while window := list(islice(waiting, _AT_ONCE)):
            by_tenant: dict[int, list[int]] = {}
            for tenant in window:
                by_tenant.setdefault(tenant, []).append(tenant)
            batches += by_tenant.values()
        return self._serve(batches)

    def _serve(self, batches: Sequence[Sequence[int]]) -> Served:
        config = self._base.defaults.generate_config()
        loaded: OrderedDict[str, None] = OrderedDict()
        ends: list[float] = []
        begun = time.perf_counter()
        for batch in batches:
            self._use(f"tenant{batch[0]}", loaded)
            self._pipeline(
                [_PROMPT.format("a robot")] * len(batch),
                num_inference_steps=STEPS,
                guidance_scale=config.guidance_scale,
                generator=torch.Generator().manual_seed(1),
            )
            ends += [time.perf_counter() - begun] * len(batch)
        # A request arrives when the eighth before it has ended.
        arrivals = [0.0] * _AT_ONCE + ends
        took = [end - arrival for end, arrival in zip(ends, arrivals, strict=False)]
        self._pipeline.unload_lora_weights()
        return Served(took, ends[-1])

    def _use(self, adapter: str, loaded: OrderedDict[str, None]) -> None:
        if adapter not in loaded:
            if len(loaded) == _LOADED:
                oldest, _ = loaded.popitem(last=False)
                self._pipeline.delete_adapters(oldest)
            self._pipeline.load_lora_weights(self._adapters, adapter_name=adapter)
            loaded[adapter] = None
        loaded.move_to_end(adapter)
        self._pipeline.set_adapters([adapter])


def _concepts(base: BaseModel, count: int) -> Iterator[Concept]:
    first = untrained(base, "robot")
    noise = np.random.default_rng(0)
    for number in range(count):
        shift = noise.normal(scale=0.01, size=first.o_v.shape).astype(np.float32)
        yield replace(first, name=f"tenant-{number}", o_v=first.o_v + shift)


def _layers(pipeline: Any) -> dict[str, Any]:
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(pipeline.unet, adapter_name="first")
    return {"unet_lora_layers": convert_state_dict_to_diffusers(state)}


def _draw(found: dict[str, dict[int, Served]], *, file: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for way, rates in found.items():
        ax.plot(list(rates), [rate.images_per_second for rate in rates.values()], "o-", label=way)
    ax.set(xscale="log", xlabel="tenants, each with a concept", ylabel="images per second")
    ax.set_ylim(0)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    figure.savefig(file, dpi=90, pil_kwargs={"lossless": True, "method": 6})


if __name__ == "__main__":
    main()
