"""The gated rank-one edit: METHOD equations (1) to (3), in the paper's notation.

| symbol | shape | meaning |
| --- | --- | --- |
| `e` | (..., N, d) | encodings of N prompt tokens |
| `W` | (d_l, d) | a frozen Key or Value projection |
| `i` | (J, d) | target inputs i*_j of J concepts |
| `o` | (J, d_l) | target outputs o*_j |
| `C` | (d, d) | uncentred second moment of encodings, E[e eᵀ] |
| `beta`, `tau` | (J,) | bias and temperature of each concept's gate |

The metric C⁻¹ is applied only in `Metric.solve`, through a Cholesky factor.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from perfusion_core.errors import ConceptsIndistinguishable, CovarianceError

MAX_COSINE = 0.9999
"""Two concepts with a larger cosine in the metric of C count as one direction: G cannot be
inverted."""

BLENDING_COSINE = 0.5
"""Two concepts with a larger cosine in the metric of C may blend. If both have equal lengths, the
similarity of one concept's encoding to the other concept (equation (1)) equals their cosine. At
this cosine and the default strength (β = 0.7, τ = 0.15) each concept's word gives the other
concept's gate the value 0.2; a larger cosine gives a larger value. Gates kept apart (`decompose`)
prevent this if a prompt's encodings equal those of training. Unrelated kinds of things have smaller
cosines."""


@dataclass(frozen=True)
class Metric:
    """C⁻¹, stored as the lower Cholesky factor of C (never inverted, never in half precision)."""

    factor: Tensor  # (d, d)

    @classmethod
    def of(cls, C: Tensor) -> "Metric":
        """Factor C in its own precision; raises CovarianceError unless C is positive definite."""
        factor, info = torch.linalg.cholesky_ex(C)
        if int(info) != 0 or not bool(torch.isfinite(factor).all()):
            raise CovarianceError(
                "The covariance is not positive definite: estimate it from more captions, "
                "or with a larger ridge."
            )
        return cls(factor)

    def solve(self, i: Tensor) -> Tensor:
        """Return `C⁻¹ i` of each row of i (J, d), in the factor's precision and on its device."""
        return torch.cholesky_solve(i.to(self.factor).T, self.factor).T  # (J, d)


@dataclass(frozen=True)
class Decomposition:
    """The parts of an encoding that the edit needs; all layers use the same parts."""

    e_perp: Tensor  # (..., N, d): the part of e that is C⁻¹-orthogonal to every i*
    gate: Tensor  # (..., N, J): each concept's gate at each token

    def apply(self, W: Tensor, o: Tensor) -> Tensor:
        """Implement equation (3): return `W e_perp + Σ_j o_j* gate_j`, (..., N, d_l)."""
        return self.e_perp.to(W.dtype) @ W.T + self.gate.to(W.dtype) @ o.to(W.dtype)


def decompose(
    e: Tensor, i: Tensor, *, metric: Metric, beta: Tensor, tau: Tensor, apart: bool = False
) -> Decomposition:
    """Split encodings into the concepts' gates and the part that is orthogonal to all concepts.

    With `apart` each concept's gate is computed only from the concept's share of the removed part
    of e. In equation (3) the encoding of one concept also raises the gate of a similar concept;
    with `apart` an encoding never raises another concept's gate (docs/decisions/0007). For a single
    concept, or for orthogonal concepts, `apart` and equation (3) give the same gates. Computations
    with C⁻¹ and the J vectors use the metric's precision and device. Computations with e use the
    precision of e, but at least float32. Raises ConceptsIndistinguishable if two i* have (nearly)
    the same direction.
    """
    e = e.to(torch.promote_types(e.dtype, torch.float32))
    exact = i.detach().to(metric.factor)  # (J, d)
    a = metric.solve(exact)  # (J, d): rows C⁻¹ i_j
    G = exact @ a.T  # (J, J): i_jᵀ C⁻¹ i_k
    _check_distinguishable(G)

    # Implements equation (1): sim_j(e) = (i_jᵀ C⁻¹ e) / (i_jᵀ C⁻¹ i_j)
    sim = e @ (a / G.diagonal()[:, None]).to(e).T  # (..., N, J)

    # Implements equation (3): e_perp = e − Iᵀ G⁻¹ I C⁻¹ e; for one concept it is equation (2)'s e −
    # sim(e) i*. Subtracting each projection separately would be wrong if two i* are not
    # C⁻¹-orthogonal. `solve` would wait for the device, to check whether G is singular; this is
    # checked above.
    dual = torch.linalg.solve_ex(G, a).result.to(e)  # (J, d): rows of G⁻¹ I C⁻¹
    shares = e @ dual.T  # (..., N, J): e = Σ_j shares_j i_j + e_perp
    if apart and len(i) > 1:
        sim = torch.minimum(sim, shares)
    gate = torch.sigmoid((sim - beta.to(e)) / tau.to(e))  # (..., N, J)
    return Decomposition(e_perp=e - shares @ exact.to(e), gate=gate)


def cosines(i: Tensor, metric: Metric) -> Tensor:
    """Return the cosines between concepts in the metric of C, (J, J): 1 means one direction.

    `G_jk / sqrt(G_jj G_kk)` with `G = I C⁻¹ Iᵀ` of equation (3), in the metric's precision.
    """
    exact = i.to(metric.factor)
    return _cosines(exact @ metric.solve(exact).T)


def blending_pairs(i: Tensor, metric: Metric) -> list[tuple[int, int, float]]:
    """Return pairs (j, k), j < k, of concepts with a cosine above BLENDING_COSINE, and the cosine.

    Opposite directions do not blend: the encoding of one concept lowers the other concept's gate.
    """
    cosine = cosines(i, metric)
    return [
        (j, k, float(cosine[j, k]))
        for k in range(len(cosine))
        for j in range(k)
        if float(cosine[j, k]) > BLENDING_COSINE
    ]


def _cosines(G: Tensor) -> Tensor:
    length = G.diagonal().sqrt()
    return G / (length[:, None] * length[None, :])


def _check_distinguishable(G: Tensor) -> None:
    if len(G) < 2:
        # A zero i* is refused earlier (Concept.from_bytes, BaseModel.check). Reading G's values
        # here would make each step of a training wait for the device.
        return
    if not float(G.diagonal().min()) > 0:
        raise ConceptsIndistinguishable(
            "One of these concepts has no direction: its i* is zero. Download or train it again."
        )
    cosine = _cosines(G)  # (J, J)
    for j in range(len(G)):
        for k in range(j):
            if not abs(float(cosine[j, k])) < MAX_COSINE:
                raise ConceptsIndistinguishable(
                    f"Concepts {k + 1} and {j + 1} point in the same direction (cosine "
                    f"{float(cosine[j, k]):.5f}): no edit can tell them apart. "
                    "Use one of them, or train one of them longer."
                )
    # Three or more concepts may be linearly dependent although no two of them are.
    if float(torch.linalg.eigvalsh(cosine)[0]) < 1.0 - MAX_COSINE:
        raise ConceptsIndistinguishable(
            "These concepts are not independent of each other: no edit can tell them apart. "
            "Use fewer of them, or train one of them longer."
        )
