"""What a device's errors mean."""

import pytest
import torch

from perfusion_core.memory import is_out_of_memory
from worker.engine.device import is_broken


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


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "FIND was unable to find an engine to execute this computation",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_a_cuda_library_without_memory_is_out_of_memory_and_no_broken_device(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words))
    assert not is_broken(RuntimeError(words))


def test_a_cuda_library_that_fails_otherwise_is_not_out_of_memory() -> None:
    error = RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`")
    assert not is_out_of_memory(error)
    assert is_broken(error)
