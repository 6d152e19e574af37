"""Min-SNR weights of a loss: times with little noise do not dominate (arXiv 2303.09556)."""

from typing import Any

import torch
from torch import Tensor


def min_snr_weights(scheduler: Any, t: Tensor, *, gamma: float) -> Tensor:
    """Return the weight (B,) of each example at its time t (B,).

    With `SNR = ᾱ / (1 − ᾱ)` the weight is min(SNR, γ) / SNR for predicted noise, min(SNR, γ) /
    (SNR + 1) for predicted velocity, and min(SNR, γ) for predicted samples. The weights are
    computed from ᾱ, so that they are finite where the SNR is 0 (zero terminal SNR): noise then has
    the weight 1, its limit.
    """
    signal: Tensor = scheduler.alphas_cumprod.to(t.device)[t].float()  # (B,): ᾱ
    noise = 1 - signal
    match scheduler.config.prediction_type:
        case "v_prediction":
            return torch.minimum(signal, gamma * noise)
        case "sample":
            return (signal / noise).clamp(max=gamma)
        case _:
            return (gamma * noise / signal).clamp(max=1)
