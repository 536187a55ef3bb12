"""anomalib's OpenVINO inferencer beside our engine on the same int8 graph: PNG files to decisions with heatmaps.

Theirs takes float pictures of any size as its own exports do, so the graph gets in front what anomalib puts there
(resize without antialiasing) and behind it what it puts there: `pred_score`, `pred_label`, and `anomaly_map` at the
size of the photograph. Convolutions and their int8 ranges are those of our graph. All take turns in one process:

- "loop": `inferencer.predict(path)` file by file, as its documentation and tools/inference/openvino_inference.py do;
- "loop, drawn": the same with `visualize_image_item`, as that script has it;
- "batches of 32": `read_image` and `predict(array)`, the most that its class gives; not in its documentation.

Ours is `Session.stream(maps=True)`: decision, map at the photograph's size, boxes. Random weights, as in engine.py.

    python -m venv ANOMALIB                       # apart from ours: it wants 14 packages that we do not
    echo OURS/lib/python3.11/site-packages > ANOMALIB/lib/python3.11/site-packages/ours.pth     # the same openvino
    ANOMALIB/bin/pip install -c constraints.txt anomalib==2.7.0
    PYTHONPATH=src ANOMALIB/bin/python benchmarks/anomalib_inferencer.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as the command line does

import argparse
import datetime
import shlex
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import knowngood.models.torchvision_ops  # noqa: F401  (before timm and anomalib)

import cv2
import numpy as np
from engine import int8_of, pictures, read, recipe_of, timed

from knowngood.files import write_json
from knowngood.models.batching import BATCH
from knowngood.recipe.export_formats import OPENVINO_FILE
from knowngood.recipe.inputs import stream
from knowngood.recipe.session import Session
from knowngood.telemetry import switch_off
from knowngood.workflows.runs import versions

RESULT = Path(__file__).parent / "results" / "anomalib_inferencer.json"
NETWORKS = ("resnet50", "resnet18")


def as_theirs(ours: Path, target: Path) -> Path:
    """Writes our graph with the inputs and outputs that anomalib's inferencer knows."""
    switch_off()
    import openvino
    from openvino import opset13 as ops

    def stretched(node: Any, size: Any) -> Any:
        axes = ops.constant([2, 3], np.int64)
        return ops.interpolate(node, size, "linear_onnx", "sizes", axes=axes)

    def of(values: Any, *dtype: Any) -> Any:
        return ops.constant(values, *dtype)

    model = openvino.Core().read_model(ours)
    images = model.input(0)
    height, width = (side.get_length() for side in list(images.partial_shape)[2:])
    taken = ops.parameter([-1, 3, -1, -1], np.float32)
    grey = ops.gather(taken, of([0], np.int64), of(1, np.int64))
    fitted = stretched(ops.multiply(grey, of(255.0, np.float32)), of([height, width], np.int64))
    for consumer in images.get_target_inputs():
        consumer.replace_source_output(fitted.output(0))
    margin, heat = (model.output(name).get_node().input_value(0) for name in ("margin", "map"))
    size = ops.gather(ops.shape_of(taken), of([2, 3], np.int64), of(0, np.int64))
    full = ops.squeeze(stretched(ops.unsqueeze(heat, of(1, np.int64)), size), of(1, np.int64))
    score = ops.sigmoid(margin)
    label = ops.greater_equal(score, of(0.5, np.float32))
    made = openvino.Model([score, label, full], [taken], "anomalib")
    made.input(0).tensor.set_names({"input"})
    for output, name in zip(made.outputs, ("pred_score", "pred_label", "anomaly_map"), strict=True):
        output.tensor.set_names({name})
    target.mkdir()
    openvino.save_model(made, target / OPENVINO_FILE, compress_to_fp16=False)
    return target / OPENVINO_FILE


def beside(fast: Session, inferencer: Any, paths: list[Path], rounds: int) -> dict[str, Any]:
    from anomalib.data.utils import read_image
    from anomalib.visualization import visualize_image_item

    def loop() -> int:
        return sum(len(inferencer.predict(path).pred_label) for path in paths)

    def drawn() -> int:
        for path in paths:
            said = inferencer.predict(path)
            visualize_image_item(said.items[0], fields=["image"], overlay_fields=[("image", ["anomaly_map"])])
        return len(paths)

    def batches() -> int:
        parts = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
        return sum(len(inferencer.predict(np.stack([read_image(p) for p in part])).pred_label) for part in parts)

    rates = timed(
        {
            "ours": lambda: sum(1 for _ in fast.stream(stream(paths).items, maps=True)),
            "anomalib, loop": loop,
            "anomalib, loop, drawn": drawn,
            "anomalib, batches of 32": batches,
        },
        rounds,
    )
    return {
        "images/s": {name: round(rate, 1) for name, rate in rates.items()},
        "ours / theirs": {name: round(rates["ours"] / rate, 2) for name, rate in rates.items() if name != "ours"},
    }


def likeness(fast: Session, inferencer: Any, sample: np.ndarray) -> dict[str, float]:
    """How far the two answers are apart on photographs that need no resizing: it is one graph, rounding differs.

    Theirs leaves to OpenVINO what is not int8 (bf16 on processors that have it), ours computes that in float32. Maps
    are compared as theirs are stretched; ours are placed over what each cell saw.
    """
    ours = fast.runtime.run(sample, maps=True)
    assert ours.maps is not None
    scores = fast.recipe.manifest.calibration.apply(ours.raw_scores)
    apart, alike = [], []
    for pixels, score, raw in zip(sample, scores, ours.maps, strict=True):
        said = inferencer.predict(np.repeat(pixels[0][:, :, None], 3, axis=2) / 255)
        apart.append(abs(float(said.pred_score[0]) - score))
        stretched = cv2.resize(raw, pixels.shape[:0:-1], interpolation=cv2.INTER_LINEAR)
        alike.append(np.corrcoef(stretched.ravel(), said.anomaly_map[0].ravel())[0, 1])
    return {
        "score, mean difference": float(np.mean(apart)),
        "score, deviation over photographs": float(np.std(scores)),
        "map, mean correlation": float(np.mean(alike)),
    }


def main() -> None:
    from anomalib.deploy import OpenVINOInferencer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--sample", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    document: dict[str, Any] = {
        "what": __doc__.splitlines()[0],
        "command": "python " + shlex.join(sys.argv),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "load of the machine before": round(os.getloadavg()[0], 2),
        "versions": versions() | {name: version(name) for name in ("anomalib", "openvino", "nncf")},
    }
    out, before = given.out.absolute(), Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        os.chdir(place)  # theirs writes openvino_cache where it is started
        pngs, _ = pictures(place / "jpeg", given.images)
        for backbone in given.networks:
            recipe = recipe_of(backbone)
            sample = np.stack([recipe.fitted(read(path)) for path in pngs[: given.sample]])
            fast = int8_of(recipe, sample, place / backbone)
            theirs = OpenVINOInferencer(
                as_theirs(place / backbone / OPENVINO_FILE, place / f"{backbone}-theirs"), device="CPU"
            )
            document[backbone] = beside(fast, theirs, pngs, given.rounds) | {
                "answers to the same pixels": likeness(fast, theirs, sample)
            }
            print(backbone, document[backbone], flush=True)
        os.chdir(before)
    write_json(out, document)


if __name__ == "__main__":
    main()
