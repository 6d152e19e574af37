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
            tag += one.rows * one.total_steps * one.latents.numel()
        self._ends[ticket.owner] = tag
        return places


def choose(waiting: Sequence[Place], room_for: Callable[[tuple[int, ...]], int]) -> list[Place]:
    """The first in line, and the next ones of its latent shape that fit beside it.

    `waiting` is in order of age; `room_for` tells how many rows a batch of a shape may have. Where
    an owner waits for one image beside others who wait for several, theirs fill a batch only to
    twice the lone image's rows. A step takes no more than twice as long then as for it alone.
    """
    if not waiting:
        return []
    line = sorted(waiting, key=lambda one: one.tag)
    shape = line[0].trajectory.latent_shape
    line = [one for one in line if one.trajectory.latent_shape == shape]
    images = Counter(one.ticket.owner for one in waiting)
    lone = [one for one in line if images[one.ticket.owner] == 1]
    room = room_for(shape)
    room_for_many = min(room, 2 * lone[0].trajectory.rows) if lone else room
    batch: list[Place] = []
    rows = 0
    for one in line:
        own = one.trajectory.rows
        if not batch or rows + own <= (room if one in lone else room_for_many):
            batch.append(one)
            rows += own
    return batch
