"""The image of one noise, drawn by a page's graphs without a browser, and by torch."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import torch

from perfusion_core.base_model import BaseModel
from perfusion_core.browser.page import STEPS
from perfusion_core.conditioning import ConceptUse
from perfusion_core.sampling.sampler import ImageRequest, decode, start, step


def session(graph: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def drawn_by_graphs(
    files: Mapping[str, bytes], packed: np.ndarray, latents: np.ndarray
) -> np.ndarray:
    """Return the image (H, W, 3) that a page's graphs draw from noise, in grey levels."""
    of_step, decoder = session(files["step.onnx"]), session(files["decoder.onnx"])
    for numbers in json.loads(files["drawing.json"])["steps"]:
        given = {"latents": latents, "packed": packed, "step": np.array(numbers, np.float32)}
        (latents,) = of_step.run(None, given)
    (pixels,) = decoder.run(None, {"latents": latents})
    return np.asarray(pixels)


def drawn_by_torch(
    base: BaseModel, prompt: str, uses: Mapping[str, ConceptUse], noise: np.ndarray
) -> np.ndarray:
    """Return the image (H, W, 3) that the product draws from this noise (1, c, h, w)."""
    config = base.defaults.generate_config({"num_inference_steps": STEPS, "scheduler": "ddim"})
    [trajectory] = start(base, ImageRequest(prompt=prompt, concepts=uses, config=config))
    trajectory.latents = torch.from_numpy(noise)
    while not trajectory.finished:
        step(base, [trajectory])
    return np.asarray(decode(base, trajectory))
