"""What a typed program may write; test_plan.py gives it to `mypy --strict`."""
import pathlib
from collections.abc import Mapping
from typing import assert_type

import numpy as np
import numpy.typing as npt
import sotto


def total(model: str) -> int:
    report = sotto.plan(model, memory="6GiB", batch=8)
    assert_type(report, sotto.Report)
    assert_type(report.total_bytes, int)
    assert_type(report.memory["weights_bytes"], int)
    assert_type(report.parameters, Mapping[str, int])
    assert_type(report.report["total_memory_gb"], float)
    assert_type(report.phases[0]["slots"][0]["name"], str)
    assert_type(report.fits, bool)
    return report.memory["total_bytes"]


def smallest(model: pathlib.Path) -> int:
    try:
        return sotto.plan(model, memory=1, require_fit=True).smallest_budget_bytes
    except sotto.OverBudget as error:
        assert_type(error.code, str)
        return error.smallest_budget_bytes
    except sotto.Usage as error:
        raise ValueError(str(error)) from error


names: list[str] = sotto.catalog()
sotto.plan("tiny", weights=8)  # type: ignore[arg-type]
sotto.plan("tiny", 8)  # type: ignore[call-arg]

memory = sotto.MemoryManager("tiny", total="8GiB", available=2**30)
assert_type(memory.get_recommended_quantization(), str | None)
assert_type(memory.can_load_model("fp16"), bool)
memory.register_model_load(16)  # type: ignore[arg-type]

tensor = sotto.CompressedTensor(np.zeros((2, 3), np.float32), bits=4.3, level="mid")
assert_type(tensor.shape, tuple[int, int])
assert_type(tensor.error_db, float | None)
assert_type(tensor.matmul(np.zeros((1, 3), np.float32)), npt.NDArray[np.float32])
sotto.CompressedTensor.from_bytes("text")  # type: ignore[arg-type]
sotto.CompressedTensor(None, mode="int4")  # type: ignore[arg-type]
