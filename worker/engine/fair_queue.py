"""The line before the device: whose images take the next step.

Images that may share a batch stand in one line, by the start tags of fair queueing (Goyal, Vin and
Cheng 1996). A line has a clock, the smallest tag in it. An image's tag is the clock, or, where its
owner has images before it, the end of theirs: tag plus cost. Smaller tags go first, equal ones by
age. So owners of few images go by age, an owner's many images stand one behind the other and let
other owners' in between, and since tags only rise no image waits for ever.

Images of another size, and a request that samples alone, stand in a line of their own. Lines take
turns by start tags as well: a step raises its line's tag by the step's cost divided by the owners
in its batch, and a new line begins at the tag that the last step began with. So all owners in the
batches get the device at the same rate, whatever the sizes, and however many wait behind. An owner
who waits in several lines counts as one in all of them together, and the new line of an owner whose
line has ended begins at the tag of that one. So asking for several sizes gains nothing, neither at
once nor one after the other.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence

from perfusion_core.sampling.sampler import Trajectory
from worker.engine.requests import QueueKey, Request, Slot


class FairQueue:
    """Gives each image its place, and each line its turns."""

    def __init__(self) -> None:
        self._ends: dict[tuple[QueueKey, str], float] = {}  # of each owner's last image in a line
        self._tags: dict[QueueKey, float] = {}  # what each line has had, for each owner served
        self._served: dict[QueueKey, set[str]] = {}  # the owners in each line's last batch
        self._had: dict[str, float] = {}  # the tags of lines that ended, of the owners served last
        self._clock = 0.0  # the tag of the last step's line, before that step

    def join(
        self, request: Request, trajectories: Sequence[Trajectory], *, waiting: Sequence[Slot]
    ) -> list[Slot]:
        """Places for a ticket's images behind, or between, those that are waiting."""
        slots = [
            Slot(request=request, trajectory=trajectory, tag=0.0) for trajectory in trajectories
        ]
        for key in dict.fromkeys(slot.queue_key for slot in slots):
            self._join(key, [slot for slot in slots if slot.queue_key == key], waiting=waiting)
        return slots

    def leave(self, request: Request) -> None:
        """Take the steps off its owner's account that a ticket's images have not had."""
        for slot in request.slots:
            if (account := (slot.queue_key, request.owner)) in self._ends:
                self._ends[account] -= _cost(slot.trajectory, slot.trajectory.steps_left)

    def next_batch(
        self, waiting: Sequence[Slot], room_for: Callable[[tuple[int, ...]], int]
    ) -> list[Slot]:
        """Return the next batch: of the line whose turn it is, and as many as fit.

        `waiting` is in order of age; `room_for` tells how many rows a batch of a shape may have.
        """
        if not waiting:
            return []
        keys = dict.fromkeys(slot.queue_key for slot in waiting)
        if not keys.keys() & self._tags.keys():
            # All images that wait came after the last step: start anew.
            self._tags, self._served, self._had, self._clock = {}, {}, {}, 0.0
        self._end(self._tags.keys() - keys.keys())
        new = keys.keys() - self._tags.keys()
        self._tags = {key: tag for key, tag in self._tags.items() if key in keys}
        for key in new:
            owners = {slot.request.owner for slot in waiting if slot.queue_key == key}
            self._tags[key] = min(self._had.get(owner, 0.0) for owner in owners)
        self._tags |= {key: max(self._tags.get(key, 0.0), self._clock) for key in keys}
        key = min(keys, key=self._tags.__getitem__)
        return _batch_of([slot for slot in waiting if slot.queue_key == key], room_for)

    def charge(self, batch: Sequence[Slot], *, waiting: Sequence[Slot]) -> None:
        """Count a step of `batch`, chosen from `waiting`, as its line's."""
        key = batch[0].queue_key
        lines: dict[str, set[QueueKey]] = {}
        for slot in waiting:
            lines.setdefault(slot.request.owner, set()).add(slot.queue_key)
        self._clock = self._tags[key]
        self._served[key] = {slot.request.owner for slot in batch}
        owners = sum(1 / len(lines[owner]) for owner in {slot.request.owner for slot in batch})
        self._tags[key] += sum(_cost(slot.trajectory, 1) for slot in batch) / owners

    def _end(self, keys: Collection[QueueKey]) -> None:
        """Hold what lines had that ended against the owners whom they served last."""
        for key in keys:
            for owner in self._served.pop(key, ()):
                self._had[owner] = max(self._had.get(owner, 0.0), self._tags[key])
        self._had = {owner: tag for owner, tag in self._had.items() if tag > self._clock}

    def _join(self, key: QueueKey, slots: Sequence[Slot], *, waiting: Sequence[Slot]) -> None:
        clocks: dict[QueueKey, float] = {}
        for slot in waiting:
            clocks[slot.queue_key] = min(slot.tag, clocks.get(slot.queue_key, slot.tag))
        # Accounts that ended before now are forgotten; all are where no image waits.
        self._ends = {
            (line, owner): end
            for (line, owner), end in self._ends.items()
            if line in clocks and end > clocks[line]
        }
        account = (key, slots[0].request.owner)
        tag = self._ends.get(account, clocks.get(key, 0.0))
        for slot in slots:
            slot.tag = tag
            tag += _cost(slot.trajectory, slot.trajectory.total_steps)
        self._ends[account] = tag


def _batch_of(line: Sequence[Slot], room_for: Callable[[tuple[int, ...]], int]) -> list[Slot]:
    """The first in line, and the next ones that fit beside it.

    If an owner waits for just one image, owners of several fill its batch only to twice its rows:
    a step then takes no more than twice as long as for that image alone. No image overtakes one
    whose owner has nothing in the batch.
    """
    room = room_for(line[0].trajectory.latent_shape)
    images = Counter(one.request.owner for one in line)
    batch: list[Slot] = []
    served: set[str] = set()
    rows = room_for_many = 0
    for one in sorted(line, key=lambda one: one.tag):
        owner, own = one.request.owner, one.trajectory.rows
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
