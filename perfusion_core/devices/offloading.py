"""Modules that are on the device only while they are used.

Weights do not change, so a module's weights stay in the machine's memory, and leaving the device
copies nothing. The tensors of parameters are exchanged in place, so references to parameters, such
as a cross-attention layer's projections, stay valid.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from perfusion_core.memory import free_memory


class Offloading:
    """The parts of a base model that take turns on the device.

    A part of `parts` is on the device inside `using`. If there is a `resting` part, it is on the
    device outside of every `using`, and leaves while another part is used.
    """

    def __init__(
        self,
        parts: Mapping[str, Sequence[Any]],
        *,
        device: torch.device,
        resting: str | None = None,
    ) -> None:
        """Take parts whose modules are in the machine's memory; move the resting part over."""
        self._parts = {name: [_Part(m) for m in modules] for name, modules in parts.items()}
        self._device, self._resting = device, resting
        self._used: list[str] = []
        self._lock = RLock()
        if resting is not None:
            self._move_in(resting)

    def covers(self, name: str) -> bool:
        """Return whether a part leaves the device while it is not used."""
        return name in self._parts

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Keep a part on the device inside the block; a part that is not offloaded is always on it.

        Blocks may be nested. Another thread waits until the block ends.
        """
        if name not in self._parts:
            yield
            return
        with self._lock:
            if name in self._used:
                yield
                return
            present = self._used[-1] if self._used else self._resting
            if present is not None:
                self._move_out(present)
            try:
                self._move_in(name)
                self._used.append(name)
                try:
                    yield
                finally:
                    self._used.pop()
            finally:
                self._move_out(name)
                if present is not None:
                    self._move_in(present)

    def _move_in(self, name: str) -> None:
        for part in self._parts[name]:
            part.move_to(self._device)

    def _move_out(self, name: str) -> None:
        for part in self._parts[name]:
            part.move_home()
        if self._device.type == "cuda":
            free_memory()


class _Part:
    """One module and its weights in the machine's memory."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._home: list[Tensor] | None = None

    def move_to(self, device: torch.device) -> None:
        self._home = [tensor.data for tensor in self._tensors()]
        for tensor in self._tensors():
            tensor.data = tensor.data.to(device, copy=True)

    def move_home(self) -> None:
        if self._home is not None:
            for tensor, home in zip(self._tensors(), self._home, strict=True):
                tensor.data = home
            self._home = None

    def _tensors(self) -> list[Tensor]:
        return [*self._module.parameters(), *self._module.buffers()]
