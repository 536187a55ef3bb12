"""Keeps OpenVINO and NNCF from reporting to their makers: a plant calls nobody, and offline it would wait."""

from __future__ import annotations

import sys

_MODULE = "openvino_telemetry"


def switch_off() -> None:
    """Makes the reporting package look absent in this process, which both take as a reason to report nothing.

    Call before either is imported. A program that has imported it already, and so decided for itself, is left alone.
    """
    sys.modules.setdefault(_MODULE, None)  # type: ignore[arg-type]
