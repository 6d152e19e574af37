"""The gated rank-one edit: METHOD equations (1) to (3), in the paper's letters.

| symbol | shape | meaning |
| --- | --- | --- |
| `e` | (..., N, d) | encodings of N prompt tokens |
| `W` | (d_l, d) | a frozen Key or Value projection |
| `i` | (J, d) | target inputs i*_j of J concepts |
| `o` | (J, d_l) | target outputs o*_j |
| `C` | (d, d) | uncentred second moment of encodings, E[e eᵀ] |
| `beta`, `tau` | (J,) | bias and temperature of each concept's gate |

The metric C⁻¹ is applied in one place, `Metric.solve`, through a Cholesky factor.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from perfusion_core.errors import ConceptsIndistinguishable, CovarianceError

MAX_COSINE = 0.9999
"""Two concepts nearer than this in the metric of C are one direction: G cannot be inverted."""

BLENDING_COSINE = 0.5
"""Two concepts nearer than this in the metric of C may blend. At equal lengths the similarity of
one concept's encoding to the other (equation (1)) is this cosine. At the default strength (β =
0.7, τ = 0.15) each word then opens the other concept's gate to a fifth, and beyond it more and
more. Gates kept apart (`decompose`) prevent that as far as a prompt's encodings are those of
training. Unrelated kinds of things lie below."""


@dataclass(frozen=True)
class Metric:
    """C⁻¹, as the lower Cholesky factor of C (never inverted, never in half precision)."""

    factor: Tensor  # (d, d)

    @classmethod
    def of(cls, C: Tensor) -> "Metric":
        """Factor C in its own precision; raises CovarianceError unless positive definite."""
        factor, info = torch.linalg.cholesky_ex(C)
        if int(info) != 0 or not bool(torch.isfinite(factor).all()):
            raise CovarianceError(
                "The covariance is not positive definite: estimate it from more captions, "
                "or with a larger ridge."
            )
        return cls(factor)

    def solve(self, i: Tensor) -> Tensor:
        """Return `C⁻¹ i` of each row of i (J, d), in the factor's precision and place."""
        return torch.cholesky_solve(i.to(self.factor).T, self.factor).T  # (J, d)


@dataclass(frozen=True)
class Edit:
    """What the edit needs of an encoding, the same for every layer's Keys and Values."""

    e_perp: Tensor  # (..., N, d): the part of e that is C⁻¹-orthogonal to every i*
    gate: Tensor  # (..., N, J): each concept's gate at each token

    def apply(self, W: Tensor, o: Tensor) -> Tensor:
        """Implements equation (3): `W e_perp + Σ_j o_j* gate_j`, (..., N, d_l)."""
        return self.e_perp.to(W.dtype) @ W.T + self.gate.to(W.dtype) @ o.to(W.dtype)


def decompose(
    e: Tensor, i: Tensor, *, metric: Metric, beta: Tensor, tau: Tensor, apart: bool = False
) -> Edit:
    """Split encodings into the concepts' gates and what is orthogonal to all of them.

    With `apart` a gate sees no more of e than its concept's share of the removed part. In equation
    (3) one concept's encoding opens the gate of another of its kind; with `apart` it never does
    (docs/decisions/0007). One concept, or orthogonal ones, are the same either way.
    C⁻¹ and the J vectors are computed with in the metric's precision and place; e in its own
    precision, but float32 at least.
    Raises ConceptsIndistinguishable if two i* are (nearly) one direction.
    """
    e = e.to(torch.promote_types(e.dtype, torch.float32))
    exact = i.detach().to(metric.factor)  # (J, d)
    a = metric.solve(exact)  # (J, d): rows C⁻¹ i_j
    G = exact @ a.T  # (J, J): i_jᵀ C⁻¹ i_k
    _check_distinguishable(G)

    # Implements equation (1): sim_j(e) = (i_jᵀ C⁻¹ e) / (i_jᵀ C⁻¹ i_j)
    sim = e @ (a / G.diagonal()[:, None]).to(e).T  # (..., N, J)

    # Implements equation (3): e_perp = e − Iᵀ G⁻¹ I C⁻¹ e; for one concept it is equation (2)'s
    # e − sim(e) i*. Subtracting each projection on its own would be wrong as soon as two i* are
    # not C⁻¹-orthogonal.
    # `solve` would wait for the device to say whether G is singular, which is checked above.
    dual = torch.linalg.solve_ex(G, a).result.to(e)  # (J, d): rows of G⁻¹ I C⁻¹
    shares = e @ dual.T  # (..., N, J): e = Σ_j shares_j i_j + e_perp
    if apart and len(i) > 1:
        sim = torch.minimum(sim, shares)
    gate = torch.sigmoid((sim - beta.to(e)) / tau.to(e))  # (..., N, J)
    return Edit(e_perp=e - shares @ exact.to(e), gate=gate)


def cosines(i: Tensor, metric: Metric) -> Tensor:
    """Return the cosines between concepts in the metric of C, (J, J): 1 means one direction.

    `G_jk / sqrt(G_jj G_kk)` with `G = I C⁻¹ Iᵀ` of equation (3), in the metric's precision.
    """
    exact = i.to(metric.factor)
    return _cosines(exact @ metric.solve(exact).T)


def blending_pairs(i: Tensor, metric: Metric) -> list[tuple[int, int, float]]:
    """Return pairs (j, k), j < k, of concepts nearer than BLENDING_COSINE, with their cosine.

    Opposite directions are far apart: their gates shut each other.
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
        # A zero i* is refused earlier (Concept.from_bytes, BaseModel.check). A look at G would wait
        # for the device in each step of a training.
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
    # Three or more may be dependent without any two being so.
    if float(torch.linalg.eigvalsh(cosine)[0]) < 1.0 - MAX_COSINE:
        raise ConceptsIndistinguishable(
            "These concepts are not independent of each other: no edit can tell them apart. "
            "Use fewer of them, or train one of them longer."
        )
