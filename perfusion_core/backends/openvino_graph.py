"""The U-Net as a graph of OpenVINO, for CPUs.

A graph fuses what torch computes one operation after another, and uses AMX for bfloat16. It has no
fixed sizes: rows and the sides of the latents may differ from call to call.
"""

import threading
import warnings
from typing import Any, Literal

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from openvino.preprocess import PrePostProcessor
from torch import Tensor

from perfusion_core.backends.backend import UNetInput, example_input

Precision = Literal["float32", "bfloat16"]

_EXAMPLE_SIDE = 2  # of the innermost feature maps, when the U-Net is traced
_EXAMPLE_TOKENS = 8


class OpenVinoBackend:
    """A compiled copy of a U-Net with packed attention. Each thread has its own request."""

    name = "openvino"

    def __init__(self, unet: Any, *, packed_width: int, precision: Precision) -> None:
        """Trace and compile the U-Net; in bfloat16 the convolutions and products are in bfloat16.

        `packed_width` is the last dimension of packed Keys and Values.
        """
        self.precision = precision
        traced = _Traced(unet, packed_width=packed_width)
        self._names = traced.names
        self._compiled = openvino.Core().compile_model(
            traced.graph(),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "PERFORMANCE_HINT": "LATENCY",
                # Two processes that pin their threads would share the same cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._own = threading.local()

    def __call__(self, rows: UNetInput) -> Tensor:
        """Return the prediction of all rows."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        given = rows.tensors
        told = self._own.request.infer(
            [given[name].float().contiguous().numpy() for name in self._names], share_inputs=True
        )
        return torch.from_numpy(told[0])


def knows_bfloat16() -> bool:
    """Return whether this CPU multiplies matrices in bfloat16 (AMX or AVX512-BF16)."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class _Traced(torch.nn.Module):
    """The U-Net with positional inputs, which is what tracing takes."""

    def __init__(self, unet: Any, *, packed_width: int) -> None:
        super().__init__()
        self._unet = unet
        levels = len(unet.config.block_out_channels)
        self._example = example_input(
            unet,
            rows=2,
            side=_EXAMPLE_SIDE * 2 ** (levels - 1),
            tokens=_EXAMPLE_TOKENS,
            packed_width=packed_width,
        ).tensors
        self.names = list(self._example)

    def forward(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self.names, inputs, strict=True))
        latents, timesteps = given.pop("latents"), given.pop("timesteps")
        prediction: Tensor = self._unet(
            latents,
            timesteps,
            encoder_hidden_states=given.pop("packed"),
            timestep_cond=given.pop("guidance", None),
            added_cond_kwargs=given or None,
            return_dict=False,
        )[0]
        return prediction

    @torch.no_grad()
    def graph(self) -> openvino.Model:
        """Return the graph, with inputs and output in float32 and no fixed sizes.

        This is what `openvino.convert_model` does, without its telemetry.
        """
        dtype = self._unet.dtype
        example = tuple(
            given.float() if name == "timesteps" else given.to(dtype)
            for name, given in self._example.items()
        )
        with warnings.catch_warnings():
            # Tracing fixes the U-Net's decisions by sizes, which are the same for every size here.
            warnings.simplefilter("ignore")
            module = torch.jit.freeze(
                torch.jit.trace(self.eval(), example, check_trace=False, strict=False)
            )
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(module, example_input=example)
        model = frontend.convert(frontend.load(decoder))
        own = openvino.Type.bf16 if dtype == torch.bfloat16 else openvino.Type.f32
        for port, (name, given) in zip(model.inputs, self._example.items(), strict=True):
            node = port.get_node()
            node.set_element_type(openvino.Type.f32 if name == "timesteps" else own)
            node.set_partial_shape(openvino.PartialShape(_free_sizes(name, given)))
        model.validate_nodes_and_infer_types()
        prepared = PrePostProcessor(model)
        for index in range(len(model.inputs)):
            prepared.input(index).tensor().set_element_type(openvino.Type.f32)
        prepared.output().tensor().set_element_type(openvino.Type.f32)
        return prepared.build()


def _free_sizes(name: str, given: Tensor) -> list[int]:
    """Return the shape of an input with -1 where the size may differ from call to call."""
    free = {"latents": (0, 2, 3), "packed": (0, 1)}.get(name, (0,))
    return [-1 if axis in free else size for axis, size in enumerate(given.shape)]
