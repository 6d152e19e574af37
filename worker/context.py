"""The composition root of a worker: one base model, and one engine that uses the device.

A worker context uses no global variables, so that tests can run several workers in one process.
"""

import os
import socket
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from perfusion_core.imaging.metadata import EVERYTHING, Metadata
from service import workers
from service.wiring import Service
from worker.metadata import metadata_of
from worker.progress import AfterSampling, PreviewBudget

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel
    from perfusion_core.evaluators.similarity import Evaluator
    from worker.engine.engine import Engine
    from worker.models.concept_cache import ConceptCache
    from worker.models.evaluators import Evaluators
    from worker.models.loader import ModelLoader


@dataclass(frozen=True)
class WorkerContext:
    """The objects that all jobs of this process share."""

    service: Service
    worker_id: str
    model_loader: "ModelLoader"
    engine: "Engine"
    concepts: "ConceptCache"
    evaluators: "Evaluators | None" = None
    metadata: Metadata = EVERYTHING  # of image files
    after_sampling: AfterSampling = field(default_factory=AfterSampling)
    preview_budget: PreviewBudget = field(default_factory=PreviewBudget)
    # Set in this order when the process stops. First: no new jobs, and trainings leave. Second: all
    # jobs leave.
    draining: Event = field(default_factory=Event)
    halted: Event = field(default_factory=Event)
    # Set when the device hangs or fails permanently: only a new process can recover.
    broken: Event = field(default_factory=Event)

    @property
    def willing(self) -> bool:
        """Return whether new jobs may be claimed."""
        return not self.draining.is_set() and not self.broken.is_set()

    @property
    def evaluator(self) -> "Evaluator | None":
        """The evaluator for the base model; None if no evaluator exists or is loaded yet."""
        if self.evaluators is None:
            return None
        return self.evaluators.for_base_model(self.model_loader.base())

    @property
    def segmenter(self) -> str | None:
        """The segmenter's folder or hub name; None if its files are not on this machine.

        Then pictures without a mask are learned as a whole: `perfusion prepare` fetches it.
        """
        from worker.models import segmenter

        return segmenter.name_of(self.service.settings)


def build(service: Service, *, base: "BaseModel | None" = None) -> WorkerContext:
    """Return the context of one worker without starting anything; `base` may be a loaded model."""
    # These modules import torch, which claims, leases and repairs do not need.
    from worker.engine.engine import Engine
    from worker.models.concept_cache import ConceptCache
    from worker.models.evaluators import Evaluators
    from worker.models.loader import ModelLoader

    evaluators, broken = Evaluators(service.settings), Event()
    model_loader = ModelLoader(service, base=base, evaluators=evaluators)
    return WorkerContext(
        service=service,
        worker_id=new_worker_id(),
        model_loader=model_loader,
        engine=Engine(model_loader.base, exact=service.settings.batches == "exact", broken=broken),
        concepts=ConceptCache(service.blobs, most_bytes=service.settings.concept_cache_bytes),
        evaluators=evaluators,
        metadata=metadata_of(service.settings),
        broken=broken,
    )


def new_worker_id() -> str:
    """Return a unique name that contains the machine and the process id."""
    return workers.new_id(socket.gethostname(), os.getpid())
