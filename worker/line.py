"""The line before the device: whose images take the next step.

Fair queueing by start tags (Goyal, Vin and Cheng 1996). The line has a clock, the smallest tag in
it. An image's tag is the clock, or, where its owner has images before it, the end of theirs: tag
plus cost. Smaller tags go first, equal ones by age. So owners of few images go by age, an owner's
many images stand one behind the other and let everybody else's in between, and since tags only
rise nobody waits for ever.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from perfusion_core.denoise import Trajectory
from worker.tickets import Place, Ticket


class Line:
    """Gives each image its place."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}  # of the last image of each owner

    def join(
        self, ticket: Ticket, trajectories: Sequence[Trajectory], *, waiting: Sequence[Place]
    ) -> list[Place]:
        """Places for a ticket's images behind, or between, those that are waiting."""
        clock = min((one.tag for one in waiting), default=float("inf"))
        # What ended before now is as good as never been; so is everything where nobody waits.
        self._ends = {owner: end for owner, end in self._ends.items() if end > clock}
        tag = self._ends.get(ticket.owner, clock if waiting else 0.0)
        places = []
        for one in trajectories:
            places.append(Place(ticket=ticket, trajectory=one, tag=tag))
            tag += _cost(one, one.total_steps)
        self._ends[ticket.owner] = tag
        return places

    def leave(self, ticket: Ticket) -> None:
        """Take the steps off its owner's account that a ticket's images have not had."""
        unused = sum(_cost(one.trajectory, one.trajectory.steps_left) for one in ticket.places)
        if ticket.owner in self._ends:
            self._ends[ticket.owner] -= unused


def choose(waiting: Sequence[Place], room_for: Callable[[tuple[int, ...]], int]) -> list[Place]:
    """The first in line, and the next ones of its latent shape that fit beside it.

    `waiting` is in order of age; `room_for` tells how many rows a batch of a shape may have. Beside
    an image that is the only one its owner waits for, owners of several fill a batch only to twice
    its rows: a step then takes no more than twice as long as for it alone. Nobody overtakes an
    owner of whom the batch has nothing.
    """
    if not waiting:
        return []
    line = sorted(waiting, key=lambda one: one.tag)
    shape = line[0].trajectory.latent_shape
    room = room_for(shape)
    images = Counter(one.ticket.owner for one in waiting)
    batch: list[Place] = []
    served: set[str] = set()
    rows = room_for_many = 0
    for one in line:
        owner, own = one.ticket.owner, one.trajectory.rows
        if one.trajectory.latent_shape != shape:
            continue
        alone = images[owner] == 1
        if not batch or rows + own <= (room if alone else room_for_many or room):
            batch.append(one)
            served.add(owner)
            rows += own
            if alone and not room_for_many:
                room_for_many = min(room, 2 * own)
        elif owner not in served:
            break
    return batch


def _cost(image: Trajectory, steps: int) -> float:
    return image.rows * steps * image.latents.numel()
