"""The sentences that say how far a worker, or a command, has loaded its models."""

from collections.abc import Callable

from perfusion_core.covariance.estimate import CAPTION_COUNT
from perfusion_core.downloads import Progress
from service.statuses import LoadingPhase, LoadingState

Report = Callable[[LoadingState], None]
"""A function that takes each new state of loading."""


def fetching(model: str, report: Report) -> Progress:
    """Return a function that reports a download of `model`, such as `evaluator`, then its load."""

    def tell(done: int, total: int) -> None:
        if done == total:
            report(loading(model))
            return
        report(
            LoadingState(
                phase=LoadingPhase.FETCHING,
                detail=f"The {model} is being fetched: {shown_bytes(done, total)}.",
                progress=done / total,
            )
        )

    return tell


def loading(model: str) -> LoadingState:
    """Return the state while a model is read into memory."""
    return LoadingState(phase=LoadingPhase.LOADING, detail=f"The {model} is being loaded.")


def estimating(captions: int, total: int = CAPTION_COUNT) -> LoadingState:
    """Return the state while the covariance of a base model is estimated from captions."""
    return LoadingState(
        phase=LoadingPhase.ESTIMATING,
        detail="The base model's covariance is being estimated, once for this model: "
        f"{captions:,} of {total:,} captions.",
        progress=min(1.0, captions / total),
    )


def failed(sentence: str) -> LoadingState:
    """Return the state after a failure; `sentence` says why, and what to do."""
    return LoadingState(phase=LoadingPhase.FAILED, detail=sentence)


def shown_bytes(done: int, total: int) -> str:
    """Return both numbers in one unit: `1.2 of 4.3 GB`."""
    unit, size = next(
        ((unit, size) for unit, size in (("GB", 1e9), ("MB", 1e6)) if total >= size), ("kB", 1e3)
    )
    return f"{done / size:.1f} of {total / size:.1f} {unit}"
