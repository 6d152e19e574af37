"""A judgement: measures the curve of a concept that was adapted from a sibling base model.

The concept's pictures are not here. Its file contains their mean embedding by the evaluator of its
training, so the same evaluator can measure images on this base model without the pictures. The
curve is then the one that the end of a training would measure. A judgement takes as long as a few
dozen images, so it saves no state: another attempt begins anew.
"""

from dataclasses import replace
from functools import partial

from perfusion_core.concept import Concept
from perfusion_core.evaluation.eval_prompts import WHOLE_CURVE, image_config
from perfusion_core.evaluation.workload import Workload, batches_of_curve
from perfusion_core.evaluators.concept_evaluator import ConceptEvaluator, EmbeddedPictures
from perfusion_core.evaluators.similarity import Evaluator
from service.blobs.store import BlobNotFound
from service.concepts.imports import JUDGE_STEPS
from service.execution import leases
from service.execution.leases import ClaimedJob
from service.statuses import Phase
from worker.context import WorkerContext
from worker.errors import FileGone
from worker.heartbeat import Heartbeat
from worker.jobs import concept_files, options


def judge_concept(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
    """Measure and record a claimed job's concept; return False if the row refused the result."""
    base, evaluator = context.model_loader.base(), context.evaluator
    concept = _read(context, claimed)
    base.check(concept)
    if (reason := why_not_judged(concept, evaluator)) is not None:
        return heartbeat.retry_while_unavailable(
            lambda: leases.finish_judgement(context.service, claimed, judged=None, warning=reason)
        )
    assert evaluator is not None and concept.evaluation is not None
    heartbeat.enter(Phase.EVALUATING)
    while_waiting = heartbeat.while_waiting(lambda: context.engine.moved_at)
    image_steps = image_config(base.defaults, seed=0).num_inference_steps
    workload = Workload(image_steps=image_steps, batch_size=None)
    batches = batches_of_curve(WHOLE_CURVE)
    measured = 0

    def report(count: int) -> None:
        nonlocal measured
        measured = count

    def check() -> None:
        workload.evaluate()
        heartbeat.report(
            measured,
            JUDGE_STEPS,
            seconds_left=lambda _: workload.seconds_left(steps=0, batches=batches),
        )
        heartbeat.check()

    concept_evaluator = ConceptEvaluator(
        evaluator,
        base,
        pictures=EmbeddedPictures.of(concept.evaluation),
        superclass=concept.superclass,
        run_on_device=partial(context.engine.run_on_device, while_waiting=while_waiting),
        check=check,
    )
    with workload.evaluation():
        evaluation = concept_evaluator.evaluate(concept, WHOLE_CURVE, measured=report)
    heartbeat.enter(Phase.SAVING)
    judged = concept_files.store(context, claimed, base, replace(concept, evaluation=evaluation))
    return heartbeat.retry_while_unavailable(
        lambda: leases.finish_judgement(context.service, claimed, judged=judged)
    )


def why_not_judged(concept: Concept, evaluator: Evaluator | None) -> str | None:
    """Return why this evaluator cannot measure the concept, and what to do; None if it can."""
    if evaluator is None:
        return (
            "No evaluator is served here, so its likeness was not measured. Look at its images, or "
            "import it again where PERFUSION_EVALUATOR names the evaluator of its training."
        )
    if concept.evaluation is None:
        return (
            "It was trained without an evaluator, and its pictures did not come with its file, so "
            "its likeness cannot be measured. Look at its images, or teach it here from its "
            "pictures."
        )
    own = concept.evaluation.evaluator
    if own.fingerprint != evaluator.ref.fingerprint:
        return (
            f"Its pictures were embedded by the evaluator {own.name} ({own.fingerprint}), and the "
            f"evaluator here is {evaluator.ref.name} ({evaluator.ref.fingerprint}). Their figures "
            "cannot be compared, so its likeness was not measured. Look at its images, or teach it "
            "here from its pictures."
        )
    return None


def _read(context: WorkerContext, claimed: ClaimedJob) -> Concept:
    try:
        data = context.service.blobs.get(options.judge_payload(claimed).blob_key)
    except BlobNotFound:
        raise FileGone("The concept's file is not there any more: import it again.") from None
    return Concept.from_bytes(data)
