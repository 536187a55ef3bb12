"""Keeps libraries from reporting to their makers: a plant calls nobody, and offline it would wait."""

from __future__ import annotations

import os
import sys

_MODULE = "openvino_telemetry"
# Read when the library is imported, or by its own C++ whatever Python says later. ONNX Runtime would also write a
# number of this machine into the user's cache.
_REFUSALS = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
    "HF_HUB_DISABLE_TELEMETRY": "1",  # the model hub's client, which timm uses
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",  # whoever follows donottrack.sh
}


def refuse() -> None:
    """Sets what libraries read before they report, for this process and those that it starts.

    Called when knowngood is imported, before any of them is. What the user has set stays as it is.
    """
    for name, value in _REFUSALS.items():
        if not os.environ.get(name):
            os.environ[name] = value


def switch_off() -> None:
    """Makes the package by which OpenVINO and NNCF report look absent in this process; both then report nothing.

    Call before either is imported. A program that has imported it already, and so decided for itself, is left alone.
    """
    sys.modules.setdefault(_MODULE, None)  # type: ignore[arg-type]
