"""C, the uncentred second moment of encodings, with a ridge that makes it invertible.

By default the estimate covers every position that cross-attention reads, including begin, end and
padding, so that C describes exactly the vectors that the edit processes. The begin and padding
encodings are large and occur in every prompt. If the estimate left out the begin and padding
encodings, their directions would count as rare, and C⁻¹ would magnify these directions. The gates
would then be high at the begin and padding positions. `Positions` has the other choices (decision
record 0003).

Products of encodings are computed in float32 on the device of the text encoder and summed in
float64 on the CPU. A product in float64 would take most of the time on a GPU.

The fingerprint of C depends on how C was estimated, not on the bits of C. Another machine that
estimates C from the same captions on the same base model rounds differently, but concepts trained
on that machine still fit.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from perfusion_core.config import Positions
from perfusion_core.errors import CovarianceError
from perfusion_core.rank_one import Metric

CAPTION_COUNT = 10_000
RIDGE = 1e-3
"""The value added to C's diagonal, as a share of `RidgeUnit`, so that rare directions do not
dominate C⁻¹."""

RidgeUnit = Literal["median", "mean"]
"""The median or the mean of C's diagonal. The median is the default, since a few large dimensions,
as in SDXL's states without a norm, would inflate the mean and close the others. The mean is the
rule of earlier releases, and of the shipped model's covariance."""

_TOKEN_RULES: Mapping[Positions, str] = MappingProxyType(
    {
        "all": "all positions",
        "content": "content positions",
        "one-per-caption": "one content position of each caption",
    }
)


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
    positions: Positions = "all",
    content: Callable[[list[str]], Tensor] | None = None,
    batch_size: int = 64,
    ridge: float = RIDGE,
    ridge_unit: RidgeUnit = "median",
    progress: Callable[[int], None] | None = None,
) -> Covariance:
    """Estimate C from a stream of captions, `encode(batch) -> (B, N, d)`.

    `content(batch) -> (B, N)`, bool, says which positions are the captions' own tokens; only
    `positions="all"` does without. `progress` is called with the number of captions read so far.
    Raises CovarianceError if there are fewer than 100 captions, or if C is not positive definite.
    """
    total: Tensor | None = None
    count = captions_read = 0
    digest = hashlib.sha256()
    for batch in _batches(captions, batch_size):
        for caption in batch:
            digest.update(caption.encode() + b"\n")
        e = encode(batch)  # (B, N, d)
        if positions == "all":
            rows = e.flatten(0, 1)
        elif content is None:
            raise ValueError(f"positions={positions!r} needs `content`.")
        else:
            chosen = content(batch).to(e.device)
            if positions == "one-per-caption":
                chosen = _one_of_each(chosen, first_caption=captions_read)
            rows = e[chosen]
        product = second_moment(rows)
        total = product if total is None else total + product
        count += len(rows)
        captions_read += len(batch)
        if progress is not None:
            progress(captions_read)
    if total is None or captions_read < 100 or count == 0:
        raise CovarianceError(
            f"Only {captions_read} captions: give at least 100, better {CAPTION_COUNT}, "
            "one on each line."
        )
    C = total / count
    diagonal = C.diagonal()
    unit = diagonal.median() if ridge_unit == "median" else diagonal.mean()
    C += ridge * unit * torch.eye(len(C), dtype=C.dtype)
    recipe = {
        "base_model": base_model_fingerprint,
        "captions": digest.hexdigest(),
        "ridge": ridge,
        "tokens": _TOKEN_RULES[positions],
    }
    if ridge_unit != "mean":  # recipes of earlier releases name no unit
        recipe["ridge_unit"] = ridge_unit
    name = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]
    return _finish(C, name, captions_read)


def second_moment(rows: Tensor) -> Tensor:
    """Return `Σ e eᵀ` of rows (n, d) in float64 on the CPU; the product is in float32.

    TF32, with its 10 bits of mantissa, is off whatever the process has chosen.
    """
    rows = rows.float()
    matmul = torch.backends.cuda.matmul
    usual = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        return (rows.T @ rows).cpu().double()
    finally:
        matmul.allow_tf32 = usual


def _one_of_each(content: Tensor, *, first_caption: int) -> Tensor:
    """Keep one of the content positions (B, N) of each caption, the same on every machine."""
    kept = torch.zeros_like(content)
    for row, places in enumerate(content):
        if len(own := places.nonzero().flatten().tolist()):
            seed = hashlib.blake2b(f"token {first_caption + row}".encode(), digest_size=8).digest()
            kept[row, own[int.from_bytes(seed, "big") % len(own)]] = True
    return kept


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
