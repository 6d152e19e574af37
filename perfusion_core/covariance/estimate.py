"""C, the uncentred second moment of encodings, with a ridge that makes it invertible.

The estimate covers every position that cross-attention reads, including begin, end and padding, so
that C describes exactly the vectors that the edit processes. The begin and padding encodings are
large and occur in every prompt. If the estimate left out the begin and padding encodings, their
directions would count as rare, and C⁻¹ would magnify these directions. The gates would then be high
at the begin and padding positions.

The fingerprint of C depends on how C was estimated, not on the bits of C. Another machine that
estimates C from the same captions on the same base model rounds differently, but concepts trained
on that machine still fit.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from perfusion_core.errors import CovarianceError
from perfusion_core.rank_one import Metric

CAPTION_COUNT = 10_000
RIDGE = 1e-3
"""The value added to C's diagonal, in units of its mean eigenvalue, so that rare directions do not
dominate C⁻¹."""
_TOKEN_RULE = "all positions"


@dataclass(frozen=True)
class Covariance:
    """C (d, d) in float64 with the ridge added, and the fingerprint of its estimation."""

    C: Tensor
    fingerprint: str
    caption_count: int
    condition_number: float
    metric: Metric = field(repr=False)

    def save(self, path: Path) -> None:
        """Write C (float64) and its fingerprint to a safetensors file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"fingerprint": self.fingerprint, "caption_count": str(self.caption_count)}
        # Each writer uses its own scratch file, since two workers on one host may estimate C at the
        # same time.
        scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        try:
            save_file({"C": self.C.contiguous()}, scratch, metadata=metadata)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "Covariance":
        """Read a saved covariance; raises CovarianceError if the file is no covariance."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                C = file.get_tensor("C")
            return _finish(C, metadata["fingerprint"], int(metadata["caption_count"]))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CovarianceError(
                f"{path.name} is not a covariance file: delete it, or make it again with "
                "`perfusion prepare`."
            ) from error


def estimate(
    captions: Iterable[str],
    encode: Callable[[list[str]], Tensor],
    *,
    base_model_fingerprint: str,
    batch_size: int = 64,
    ridge: float = RIDGE,
    progress: Callable[[int], None] | None = None,
) -> Covariance:
    """Estimate C from a stream of captions, `encode(batch) -> (B, N, d)`, summing in float64.

    `progress` is called with the number of captions read so far. Raises CovarianceError if there
    are fewer than 100 captions, or if C is not positive definite.
    """
    total: Tensor | None = None
    count = captions_read = 0
    digest = hashlib.sha256()
    for batch in _batches(captions, batch_size):
        for caption in batch:
            digest.update(caption.encode() + b"\n")
        e = encode(batch).double().flatten(0, 1).cpu()  # (B N, d)
        total = e.T @ e if total is None else total + e.T @ e
        count += len(e)
        captions_read += len(batch)
        if progress is not None:
            progress(captions_read)
    if total is None or captions_read < 100:
        raise CovarianceError(
            f"Only {captions_read} captions: give at least 100, better {CAPTION_COUNT}, "
            "one on each line."
        )
    C = total / count
    C += ridge * C.trace() / len(C) * torch.eye(len(C), dtype=C.dtype)
    recipe = {
        "base_model": base_model_fingerprint,
        "captions": digest.hexdigest(),
        "ridge": ridge,
        "tokens": _TOKEN_RULE,
    }
    name = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]
    return _finish(C, name, captions_read)


def _finish(C: Tensor, fingerprint: str, caption_count: int) -> Covariance:
    if C.ndim != 2 or C.shape[0] != C.shape[1] or not bool(torch.isfinite(C).all()):
        raise CovarianceError("The covariance is not a square matrix of finite numbers.")
    C = C.double()
    return Covariance(
        C=C,
        fingerprint=fingerprint,
        caption_count=caption_count,
        condition_number=float(torch.linalg.cond(C)),
        metric=Metric.of(C),
    )


def _batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
