"""The line before the device: fair between owners, and by age otherwise."""

from types import SimpleNamespace

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perfusion_core.denoise import ImageRequest, Trajectory
from worker.line import Line, choose
from worker.tickets import Place, Ticket

SMALL, LARGE = (4, 8, 8), (4, 16, 8)


def trajectory(
    *, steps: int = 3, rows: int = 2, shape: tuple[int, ...] = SMALL, seed: int = 0
) -> Trajectory:
    return Trajectory(
        seed=seed,
        latents=torch.zeros(1, *shape),
        scheduler=SimpleNamespace(timesteps=range(steps)),
        guidance_scale=4.0,
        packed=torch.zeros(rows, 1, 1),
        added={},
    )


class Crowd:
    """Who waits in a line, and who is done; a step is only counted."""

    def __init__(self, *, room: int) -> None:
        self.line, self.room = Line(), room
        self.places: list[Place] = []
        self.done: list[Place] = []

    def arrive(self, owner: str, *images: Trajectory) -> None:
        ticket = Ticket(request=ImageRequest(prompt=""), owner=owner, on_step=None)
        self.places += self.line.join(ticket, images, waiting=self.places)

    def step(self) -> list[str]:
        """Advance a batch; return its owners."""
        batch = choose(self.places, lambda _shape: self.room)
        for one in batch:
            one.trajectory.step_index += 1
        self.done += [one for one in self.places if not one.waiting]
        self.places = [one for one in self.places if one.waiting]
        return [one.ticket.owner for one in batch]


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
@example(owners=[1, 1, 1, 1], room=6, steps=1)  # one of them is never behind, and looks lone
def test_owners_who_always_want_more_share_alike(owners: list[int], room: int, steps: int) -> None:
    """Whatever the number of images in each of their requests."""
    crowd = Crowd(room=room)
    served = dict.fromkeys(range(len(owners)), 0)
    for _ in range(40 * len(owners)):
        for owner, images in enumerate(owners):
            if sum(one.ticket.owner == str(owner) for one in crowd.places) < room:
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
    wanted = sum(one.total_steps for _, _, images in arrivals for one in images)
    for now in range(13 + wanted):
        for when, owner, images in arrivals:
            if when == now:
                crowd.arrive(owner, *images)
        batch = choose(crowd.places, lambda _shape: room)
        assert bool(batch) == bool(crowd.places)
        assert len({one.trajectory.latent_shape for one in batch}) <= 1
        assert len(batch) <= 1 or sum(one.trajectory.rows for one in batch) <= room
        crowd.step()
    assert crowd.places == []
