"""A lone request of the default size while a long one of another size has the device.

    python -m benchmarks.mixed_sizes [--base-model FOLDER] [--rounds N] [--side N] [--steps N]

The other image has as many pixels as the base model allows, and 200 steps. After its
first step a request of the default size arrives, whose time is compared with an idle engine's.
Ratios are taken within a round; the median over rounds is printed, and each round.
"""

import argparse
import statistics
import time
from threading import Event

from benchmarks.staging import SHIPPED, image_request, untrained
from perfusion_core import BaseModel, Concept
from perfusion_core.defaults.bounds import max_sides
from worker.engine.engine import Engine


def main() -> None:
    """Print one line for each round, and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(SHIPPED))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, help="of the other image; the largest square")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()

    base = BaseModel.load(arguments.base_model)
    side = arguments.side or max_sides(base.default_resolution)["train"]["resolution"]
    concept = untrained(base, "dog")
    engine = Engine(lambda: base)
    engine.start()
    _alone(base, engine, concept)
    ratios = []
    for number in range(arguments.rounds):
        before = _alone(base, engine, concept)
        behind, taken = _behind(base, engine, concept, side=side, steps=arguments.steps)
        alone = statistics.mean([before, _alone(base, engine, concept)])
        ratios.append(behind / alone)
        print(
            f"round {number + 1}: alone {alone:.2f} s; beside {side} x {side} with "
            f"{arguments.steps} steps, {taken} of which were taken meanwhile: {behind:.2f} s, "
            f"{ratios[-1]:.2f} x"
        )
    engine.stop()
    print(f"median: {statistics.median(ratios):.2f} x its time alone")


def _alone(base: BaseModel, engine: Engine, concept: Concept) -> float:
    config = base.defaults.generate_config({"seed": 1, "num_images": 1})
    begun = time.perf_counter()
    engine.submit(image_request([concept], config), owner="lone").result()
    return time.perf_counter() - begun


def _behind(
    base: BaseModel, engine: Engine, concept: Concept, *, side: int, steps: int
) -> tuple[float, int]:
    """Return the seconds of the default image, and how many steps the other takes meanwhile."""
    config = base.defaults.generate_config(
        {"seed": 2, "num_images": 1, "num_inference_steps": steps, "width": side, "height": side}
    )
    began, taken = Event(), [0]

    def count(done: int, _: int) -> None:
        taken[0] = done
        began.set()

    other = engine.submit(image_request([concept], config), owner="other", on_step=count)
    began.wait()
    seconds = _alone(base, engine, concept)
    meanwhile = taken[0] - 1
    other.cancel()
    other.result()
    return seconds, meanwhile


if __name__ == "__main__":
    main()
