"""The queue for the device: fair between owners, and by age otherwise."""

import itertools
from types import SimpleNamespace

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perfusion_core.sampling.sampler import ImageRequest
from perfusion_core.sampling.trajectories import Trajectory
from worker.engine.fair_queue import FairQueue
from worker.engine.requests import Request, Slot

SMALL, LARGE = (4, 8, 8), (4, 16, 8)


def trajectory(
    *, steps: int = 3, rows: int = 2, shape: tuple[int, ...] = SMALL, seed: int = 0
) -> Trajectory:
    return Trajectory(
        seed=seed,
        latents=torch.zeros(1, *shape),
        scheduler=SimpleNamespace(timesteps=range(steps)),
        timesteps=torch.arange(steps),
        guidance_scale=4.0,
        packed=torch.zeros(rows, 1, 1),
        added={},
    )


class Crowd:
    """The images that wait in the queue, and those that are done; a step is only counted."""

    def __init__(self, *, room: int) -> None:
        self.queue, self.room = FairQueue(), room
        self.slots: list[Slot] = []
        self.done: list[Slot] = []

    def arrive(self, owner: str, *images: Trajectory, alone: bool = False) -> None:
        request = Request(
            image_requests=(ImageRequest(prompt=""),), owner=owner, on_step=None, alone=alone
        )
        self.slots += self.queue.join(request, images, waiting=self.slots)

    def next_batch(self) -> list[Slot]:
        return self.queue.next_batch(self.slots, lambda _shape: self.room)

    def step(self) -> list[str]:
        """Advance a batch; return its owners."""
        batch = self.next_batch()
        if batch:
            self.queue.charge(batch, waiting=self.slots)
        for slot in batch:
            slot.trajectory.step_index += 1
        self.done += [slot for slot in self.slots if not slot.waiting]
        self.slots = [slot for slot in self.slots if slot.waiting]
        return [slot.request.owner for slot in batch]


def test_owners_of_one_image_each_go_by_age() -> None:
    crowd = Crowd(room=4)
    for owner in "abcde":
        crowd.arrive(owner, trajectory(steps=2))
    assert [crowd.step() for _ in range(3)] == [["a", "b"], ["a", "b"], ["c", "d"]]


def test_whoever_wants_one_image_is_in_the_next_step_however_many_another_waits_for() -> None:
    crowd = Crowd(room=4)
    crowd.arrive("many", *[trajectory() for _ in range(20)])
    for _ in range(7):
        assert crowd.step() == ["many", "many"]
    crowd.arrive("one", trajectory())
    assert "one" in crowd.step()


def test_beside_a_lone_image_the_many_of_another_leave_a_step_at_most_twice_as_large() -> None:
    crowd = Crowd(room=16)
    crowd.arrive("many", *[trajectory() for _ in range(20)])
    assert crowd.step() == ["many"] * 8
    crowd.arrive("one", trajectory())
    assert sorted(crowd.step()) == ["many", "one"]
    crowd.arrive("another", trajectory())
    assert sorted(crowd.step()) == ["another", "many", "one"]


def test_a_long_idle_owner_has_saved_nothing_up() -> None:
    crowd = Crowd(room=2)
    crowd.arrive("busy", *[trajectory(steps=1) for _ in range(40)])
    for _ in range(20):
        crowd.step()
    crowd.arrive("idle", *[trajectory(steps=1) for _ in range(10)])
    assert sorted(owner for _ in range(10) for owner in crowd.step()).count("idle") <= 6


@settings(max_examples=40, deadline=None)
@given(
    owners=st.lists(st.integers(1, 4), min_size=2, max_size=5),
    room=st.sampled_from([2, 4, 6]),
    steps=st.integers(1, 5),
)
@example(owners=[1, 1, 1, 1], room=6, steps=1)  # one of them is never behind, and seems lone
def test_owners_who_always_want_more_share_alike(owners: list[int], room: int, steps: int) -> None:
    """Whatever the number of images in each of their requests."""
    crowd = Crowd(room=room)
    served = dict.fromkeys(range(len(owners)), 0)
    for _ in range(40 * len(owners)):
        for owner, images in enumerate(owners):
            if sum(slot.request.owner == str(owner) for slot in crowd.slots) < room:
                crowd.arrive(str(owner), *[trajectory(steps=steps) for _ in range(images)])
        for name in crowd.step():
            served[int(name)] += 1
    # At any time an owner is ahead by the images begun, at most a batch of them and one request.
    assert max(served.values()) - min(served.values()) <= steps * (room // 2 + max(owners) + 1)


@settings(max_examples=40, deadline=None)
@given(
    arrivals=st.lists(
        st.tuples(
            st.integers(0, 12),
            st.sampled_from("abc"),
            st.lists(
                st.builds(
                    trajectory,
                    steps=st.integers(1, 4),
                    rows=st.sampled_from([1, 2]),
                    shape=st.sampled_from([SMALL, LARGE]),
                ),
                min_size=1,
                max_size=3,
            ),
        ),
        min_size=1,
        max_size=12,
    ),
    room=st.integers(1, 6),
)
def test_a_step_is_of_one_shape_fits_and_leaves_nobody_behind(
    arrivals: list[tuple[int, str, list[Trajectory]]], room: int
) -> None:
    crowd = Crowd(room=room)
    wanted = sum(image.total_steps for _, _, images in arrivals for image in images)
    for now in range(13 + wanted):
        for when, owner, images in arrivals:
            if when == now:
                crowd.arrive(owner, *images)
        batch = crowd.next_batch()
        assert bool(batch) == bool(crowd.slots)
        assert len({slot.trajectory.latent_shape for slot in batch}) <= 1
        assert len(batch) <= 1 or sum(slot.trajectory.rows for slot in batch) <= room
        crowd.step()
    assert crowd.slots == []


def work(image: Trajectory) -> int:
    return image.rows * image.latents.numel() * image.total_steps


def test_an_image_of_another_size_holds_the_default_ones_up_by_a_step_in_two() -> None:
    crowd = Crowd(room=8)
    crowd.arrive("other", trajectory(steps=200, shape=LARGE))
    crowd.step()
    crowd.arrive("default", trajectory(steps=15))
    taken = [crowd.step() for _ in range(24)]
    # LARGE is twice SMALL: a large step for every two small ones.
    assert taken.count(["default"]) == 15
    assert len(taken) - 15 <= 15 // 2 + 2


def test_the_image_of_another_size_goes_on_however_many_of_the_default_one_come() -> None:
    crowd = Crowd(room=2)
    crowd.arrive("other", trajectory(steps=20, shape=LARGE))
    steps = 0
    while any(slot.request.owner == "other" for slot in crowd.slots):
        crowd.arrive(f"new {steps}", trajectory(steps=2))
        crowd.step()
        steps += 1
        assert steps < 2000


def test_an_owner_of_many_sizes_gets_no_more_than_an_owner_of_one() -> None:
    crowd = Crowd(room=2)
    shapes = [(4, 8, 8 * k) for k in (2, 3, 4, 5)]
    crowd.arrive("one", *[trajectory(steps=50) for _ in range(20)])
    for shape in shapes:
        crowd.arrive("many", *[trajectory(steps=50, shape=shape) for _ in range(4)])
    cost = dict.fromkeys(("one", "many"), 0)
    for _ in range(400):
        for slot in crowd.next_batch():
            cost[slot.request.owner] += slot.trajectory.rows * slot.trajectory.latents.numel()
        crowd.step()
    assert 0.8 <= cost["many"] / cost["one"] <= 1.25


def test_sizes_share_by_how_many_owners_their_batches_serve() -> None:
    crowd = Crowd(room=6)
    for number in range(5):
        crowd.arrive(f"default {number}", *[trajectory(steps=40) for _ in range(9)])
    crowd.arrive("other", *[trajectory(steps=40, shape=LARGE) for _ in range(9)])
    cost = dict.fromkeys((SMALL, LARGE), 0)
    for _ in range(300):
        batch = crowd.next_batch()
        shape = batch[0].trajectory.latent_shape
        assert len({slot.request.owner for slot in batch}) == (3 if shape == SMALL else 1)
        cost[shape] += sum(slot.trajectory.rows * slot.trajectory.latents.numel() for slot in batch)
        crowd.step()
    assert 2.5 <= cost[SMALL] / cost[LARGE] <= 3.5


def test_a_size_that_comes_late_has_saved_nothing_up() -> None:
    crowd = Crowd(room=2)
    crowd.arrive("busy", trajectory(steps=400))
    for _ in range(100):
        crowd.step()
    crowd.arrive("late", trajectory(steps=100, shape=LARGE))
    taken = [crowd.step()[0] for _ in range(60)]
    assert 15 <= taken.count("late") <= 25


def test_a_size_asked_for_a_step_at_a_time_gets_no_more_than_in_one_request() -> None:
    crowd = Crowd(room=2)
    crowd.arrive("busy", trajectory(steps=400))
    taken: list[str] = []
    for _ in range(60):
        # Away for a step after each of its own.
        if taken[-1:] != ["often"]:
            waits = any(slot.request.owner == "often" for slot in crowd.slots)
            crowd.arrive("often", *[trajectory(steps=1, shape=(4, 16, 16))] * (not waits))
        taken += crowd.step()
    # Four times the pixels: one step in five.
    assert 9 <= taken.count("often") <= 13


def test_an_owner_who_asks_for_another_size_each_time_gets_no_more_than_an_owner_of_one() -> None:
    crowd = Crowd(room=2)
    crowd.arrive("busy", trajectory(steps=400, shape=(4, 16, 100)))
    sizes = itertools.count(101)
    taken: list[str] = []
    for _ in range(60):
        while len(crowd.slots) < 3:
            crowd.arrive("changing", trajectory(steps=1, shape=(4, 16, next(sizes))))
        taken += crowd.step()
    assert taken.count("busy") >= 20


def test_a_request_that_samples_alone_shares_no_batch_and_gets_its_share() -> None:
    crowd = Crowd(room=8)
    crowd.arrive("crowd", *[trajectory(steps=30) for _ in range(2)])
    crowd.arrive("suspect", trajectory(steps=10), alone=True)
    taken = [crowd.step() for _ in range(20)]
    assert taken.count(["suspect"]) == 10
    assert all("suspect" not in owners or owners == ["suspect"] for owners in taken)


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.sampled_from([SMALL, LARGE, (4, 16, 16)]), min_size=2, max_size=6),
    steps=st.integers(1, 12),
)
def test_an_owner_waits_for_no_more_than_everybody_elses_share(
    shapes: list[tuple[int, ...]], steps: int
) -> None:
    """Whatever the sizes: while one image takes its steps, each other owner has as much, or less.

    And a step of each, which nothing can interrupt.
    """
    crowd = Crowd(room=2)
    for number, shape in enumerate(shapes[1:]):
        crowd.arrive(f"other {number}", *[trajectory(steps=200, shape=shape) for _ in range(3)])
    for _ in range(7):
        crowd.step()
    mine = trajectory(steps=steps, shape=shapes[0])
    crowd.arrive("mine", mine)
    elsewhere = 0
    while not mine.finished:
        for slot in crowd.next_batch():
            if slot.request.owner != "mine" and slot.trajectory.latent_shape != shapes[0]:
                elsewhere += slot.trajectory.rows * slot.trajectory.latents.numel()
        crowd.step()
    others = [shape for shape in shapes[1:] if shape != shapes[0]]
    same = 1 + sum(shape == shapes[0] for shape in shapes[1:])
    a_step = 2 * 4 * 16 * 16
    # Of one size, those who came before finish an image first.
    most = len(others) * (work(mine) + (same - 1) * 200 * work(mine) / steps) + a_step * (
        len(others) + 1
    )
    assert elsewhere <= most
