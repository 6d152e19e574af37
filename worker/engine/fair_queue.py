"""The fair queue, which decides whose images take the next step on the device.

Images that may share a batch wait in one queue, ordered by the start tags of fair queueing (Goyal,
Vin and Cheng 1996). A queue has a clock, which is the smallest tag in the queue. A new image's tag
is the clock, or, if its owner already has images in the queue, the end (tag plus cost) of the
owner's last image. Images with smaller tags go first; among equal tags, older images go first. So
the images of owners with few images go in order of age. Images of other owners go between the
images of an owner with many images. Tags only rise, so no image waits for ever.

Images of each size, and each request that samples alone, have a separate queue. The next step goes
to the queue with the smallest start tag. A step raises the tag of its queue by the step's cost,
divided by the number of owners in the step's batch. A new queue starts with the tag that the last
step's queue had before that step. So all owners in the batches get the device at the same rate,
whatever the sizes of the images, and however many other owners wait. An owner with images in
several queues counts as one owner. If an owner's queue ends, the owner's next queue starts with the
tag of the ended queue. So an owner gains nothing by requesting several sizes, either at once or one
after the other.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence

from perfusion_core.sampling.trajectories import Trajectory
from worker.engine.requests import QueueKey, Request, Slot


class FairQueue:
    """The queues of the engine: assigns a tag to each image, and chooses the next batch."""

    def __init__(self) -> None:
        self._ends: dict[tuple[QueueKey, str], float] = {}  # of each owner's last image in a queue
        self._tags: dict[QueueKey, float] = {}  # each queue's cost so far, per owner in its batches
        self._served: dict[QueueKey, set[str]] = {}  # the owners in each queue's last batch
        self._had: dict[str, float] = {}  # the tags of ended queues, by last owner
        self._clock = 0.0  # the tag of the last step's queue, before that step

    def join(
        self, request: Request, trajectories: Sequence[Trajectory], *, waiting: Sequence[Slot]
    ) -> list[Slot]:
        """Return a slot, with its tag, for each image of a request."""
        slots = [
            Slot(request=request, trajectory=trajectory, tag=0.0) for trajectory in trajectories
        ]
        for key in dict.fromkeys(slot.queue_key for slot in slots):
            self._join(key, [slot for slot in slots if slot.queue_key == key], waiting=waiting)
        return slots

    def leave(self, request: Request) -> None:
        """Subtract the cost of a request's remaining steps from the end tags of its owner."""
        for slot in request.slots:
            if (account := (slot.queue_key, request.owner)) in self._ends:
                self._ends[account] -= _cost(slot.trajectory, slot.trajectory.steps_left)

    def next_batch(
        self, waiting: Sequence[Slot], room_for: Callable[[tuple[int, ...]], int]
    ) -> list[Slot]:
        """Return the next batch: images of the queue with the smallest tag, as many as fit.

        `waiting` is in order of age; `room_for` returns how many rows a batch of a shape may have.
        """
        if not waiting:
            return []
        keys = dict.fromkeys(slot.queue_key for slot in waiting)
        if not keys.keys() & self._tags.keys():
            # All waiting images came after the last step, so the tags start again from zero.
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
        """Add the cost of a step of `batch` to its queue's tag; `waiting` includes the batch."""
        key = batch[0].queue_key
        queues: dict[str, set[QueueKey]] = {}
        for slot in waiting:
            queues.setdefault(slot.request.owner, set()).add(slot.queue_key)
        self._clock = self._tags[key]
        self._served[key] = {slot.request.owner for slot in batch}
        owners = sum(1 / len(queues[owner]) for owner in {slot.request.owner for slot in batch})
        self._tags[key] += sum(_cost(slot.trajectory, 1) for slot in batch) / owners

    def _end(self, keys: Collection[QueueKey]) -> None:
        """Keep each ended queue's tag for the owners in the queue's last batch."""
        for key in keys:
            for owner in self._served.pop(key, ()):
                self._had[owner] = max(self._had.get(owner, 0.0), self._tags[key])
        self._had = {owner: tag for owner, tag in self._had.items() if tag > self._clock}

    def _join(self, key: QueueKey, slots: Sequence[Slot], *, waiting: Sequence[Slot]) -> None:
        clocks: dict[QueueKey, float] = {}
        for slot in waiting:
            clocks[slot.queue_key] = min(slot.tag, clocks.get(slot.queue_key, slot.tag))
        # End tags below the clock are dropped; all end tags are dropped if no image is waiting.
        self._ends = {
            (queue, owner): end
            for (queue, owner), end in self._ends.items()
            if queue in clocks and end > clocks[queue]
        }
        account = (key, slots[0].request.owner)
        tag = self._ends.get(account, clocks.get(key, 0.0))
        for slot in slots:
            slot.tag = tag
            tag += _cost(slot.trajectory, slot.trajectory.total_steps)
        self._ends[account] = tag


def _batch_of(queue: Sequence[Slot], room_for: Callable[[tuple[int, ...]], int]) -> list[Slot]:
    """Return the first image of the queue, and the next images that fit into its batch.

    If an owner waits for only one image, owners with several images fill this image's batch only to
    twice its rows, so that a step takes at most twice as long as for this image alone. No image
    overtakes the image of an owner who has no image in the batch.
    """
    room = room_for(queue[0].trajectory.latent_shape)
    images = Counter(slot.request.owner for slot in queue)
    batch: list[Slot] = []
    served: set[str] = set()
    rows = room_for_many = 0
    for slot in sorted(queue, key=lambda slot: slot.tag):
        owner, own = slot.request.owner, slot.trajectory.rows
        alone = images[owner] == 1
        if not batch or rows + own <= (room if alone else room_for_many or room):
            batch.append(slot)
            served.add(owner)
            rows += own
            if alone and not room_for_many:
                room_for_many = min(room, 2 * own)
        elif owner not in served:
            break
    return batch


def _cost(image: Trajectory, steps: int) -> float:
    return image.rows * steps * image.latents.numel()
