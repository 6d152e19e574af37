"""What a device's errors mean."""

import torch

from worker.device import is_broken, is_out_of_memory


def test_out_of_memory_and_a_broken_device_are_told_from_other_errors() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(MemoryError())
    try:
        torch.empty(2**60)
    except RuntimeError as error:
        assert is_out_of_memory(error)
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not is_broken(RuntimeError("CUDA error: out of memory"))
    assert is_broken(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_out_of_memory(ValueError("7"))
    assert not is_broken(ValueError("7"))
