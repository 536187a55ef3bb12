"""Clients that do not know us: Triton's, and one that tries everything that the OpenAPI document allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from knowngood.recipe.bundle import Recipe

SAME = 1e-4


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_gets_what_predict_says(
    serve_live: Callable[..., Any], recipe: Recipe, parts: Path, binary: bool
) -> None:
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient comes with the extra dev")
    live = serve_live()
    name = recipe.manifest.name
    client = triton.InferenceServerClient(live.host)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    metadata = client.get_model_metadata(name)
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    paths = [*sorted((parts / "good").iterdir())[:2], *sorted((parts / "chip").iterdir())[:2]]
    said = recipe.predict(paths)
    arrays: list[tuple[str, Any]] = [("UINT8", np.stack([np.asarray(Image.open(path)) for path in paths]))]
    if binary:  # in JSON a client sends text
        arrays.append(("BYTES", np.array([path.read_bytes() for path in paths], dtype=object)))
    for kind, array in arrays:
        tensor = triton.InferInput("image", list(array.shape), kind)
        tensor.set_data_from_numpy(array, binary_data=binary)
        wanted = [triton.InferRequestedOutput(n, binary_data=binary) for n in ("defect_score", "decision")]
        result = client.infer(name, [tensor], outputs=wanted, request_id="4711")
        assert result.as_numpy("defect_score") == pytest.approx([p.defect_score for p in said], abs=SAME)
        decisions = [d.decode() if isinstance(d, bytes) else d for d in result.as_numpy("decision").tolist()]
        assert decisions == [p.decision for p in said]
        assert result.get_response()["id"] == "4711"
        result = client.infer(name, [tensor], model_version=metadata["versions"][0])
        assert result.as_numpy("defect_score").dtype == np.float64
    client.close()
    assert len(live.station.record.inspections.search()) == 8 * len(arrays)


def test_nothing_that_the_openapi_document_allows_breaks_the_station(serve_live: Callable[..., Any]) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis comes with the extra dev")
    from hypothesis import HealthCheck, Phase, given, settings

    live = serve_live(rate=100_000.0)
    schema = schemathesis.openapi.from_url(f"{live.url}/openapi.json")
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=12,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Any) -> None:
            nonlocal tried
            tried += 1
            answer = case.call(base_url=live.url)
            assert answer.status_code < 500, f"{case.method} {case.path}: {answer.status_code} {answer.text}"

        ask()
    assert tried > 50
