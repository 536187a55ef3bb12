"""The engine beside the obvious script and beside eager PyTorch: images/s with heatmaps, memory, parity on elpv.

Speed: all ways take turns in one process, the machine's int8 peak too, so that a busy machine disturbs them alike;
medians, and their ratios. Networks have random weights there, since arithmetic does not depend on them. "Script" is the
obvious one: PIL, torchvision's transforms, a DataLoader, eager PyTorch in float32 and a sigmoid, without maps.

    python benchmarks/engine.py speed memory            # some minutes
    python benchmarks/engine.py parity --run RUN         # RUN: of `knowngood train elpv`
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

import cv2
import numpy as np
import polars as pl
import torch

from knowngood.data.decoders import Pixels
from knowngood.data.loading import load
from knowngood.environment import versions_of
from knowngood.files import write_json
from knowngood.metrics.calibration import Calibration
from knowngood.models.batching import BATCH
from knowngood.models.classifier import Inspector, NetworkConfig
from knowngood.recipe.bench import Load, loads
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.export_formats import EXPORTERS
from knowngood.recipe.exporting import export
from knowngood.recipe.graphs import Scorer
from knowngood.recipe.inputs import stream
from knowngood.recipe.manifest import RecipeManifest
from knowngood.recipe.options import RUNTIMES, Tolerance
from knowngood.recipe.runtimes import Graph
from knowngood.recipe.session import Session, open_session
from knowngood.workflows.runs import versions

RESULT = Path(__file__).parent / "results" / "engine.json"
NETWORKS = ("resnet50", "resnet18", "efficientnet_lite0")
SIZE = 224
MEANS = {"efficientnet_lite0": {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}}
Way = Callable[[], int]


def recipe_of(backbone: str, size: int = SIZE) -> Recipe:
    torch.manual_seed(0)
    config = NetworkConfig(backbone=backbone, height=size, width=size, channels=1, **MEANS.get(backbone, {}))
    threshold = {"threshold": 0.5, "reject_from": 0.5}
    manifest = RecipeManifest(
        name=backbone,
        created="",
        networks=(config,),
        calibration=Calibration(),
        threshold=threshold,
        metrics={},
        seed=0,
        config={},
        data={},
        provenance={},
        versions={},
        weights_sha256="",
    )
    return Recipe(manifest, Inspector((config,)))


def int8_of(recipe: Recipe, sample: np.ndarray, folder: Path) -> Session:
    """The graph as `knowngood export` makes it first: folded, int8; without a gate, since weights are random."""
    exporter = EXPORTERS.get("openvino")()
    plain = exporter.graph(Scorer(recipe.inspector, fold=True))
    graph = exporter.quantised(plain, [sample[i : i + 8] for i in range(0, len(sample), 8)], ())
    folder.mkdir()
    exporter.save(graph, folder)
    runtime = RUNTIMES.get("openvino")(None, Graph(folder, "int8", True))
    return Session(recipe, runtime, recipe.thresholds, "", "int8", "openvino")


def obvious(recipe: Recipe, paths: list[Path]) -> Way:
    """What one would write in ten lines."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    network = recipe.inspector.members[0].trunk.to(memory_format=torch.contiguous_format).eval()
    prepare = transforms.Compose(
        [
            transforms.Resize((SIZE, SIZE)),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    class Files(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, row: int) -> torch.Tensor:
            made: torch.Tensor = prepare(Image.open(paths[row]).convert("RGB"))
            return made

    def run() -> int:
        scores = []
        with torch.no_grad():
            for batch in DataLoader(Files(), batch_size=BATCH, num_workers=0):
                logits = network(batch)
                scores.append(torch.sigmoid(logits[:, 1] - logits[:, 0]))
        return len(torch.cat(scores))

    return run


def timed(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    for name, work in ways.items():
        print("warming", name, flush=True)
        work()
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            began = time.perf_counter()
            count = work()
            took[name].append((time.perf_counter() - began) / count)
    return {name: 1 / statistics.median(times) for name, times in took.items()}


def pictures(folder: Path, count: int) -> tuple[list[Path], list[Path]]:
    """Returns real solar cells as PNG, and copies as JPEG."""
    pngs = [Path(path) for path in load("elpv").usable().frame["path"].to_list()[:count]]
    folder.mkdir()
    jpegs = []
    for path in pngs:
        jpegs.append(folder / f"{path.stem}.jpg")
        cv2.imwrite(str(jpegs[-1]), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return pngs, jpegs


def speed(given: argparse.Namespace) -> dict[str, Any]:
    heaviest = loads()
    top = heaviest["int8"]
    calls = timed({name: lambda load=load: (load.run(), 1)[1] for name, load in heaviest.items()}, given.rounds)
    limits = {name: round(rate * heaviest[name].gflop, 1) for name, rate in calls.items()}
    document: dict[str, Any] = {"peaks, GFLOP/s": limits}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        pngs, jpegs = pictures(place / "jpeg", given.images)
        for backbone in given.networks:
            recipe = recipe_of(backbone)
            sample = np.stack([recipe.fitted(read(path)) for path in pngs[: given.sample]])
            fast = int8_of(recipe, sample, place / backbone)
            batch = np.ascontiguousarray(np.resize(sample, (BATCH, *sample.shape[1:])))
            document[backbone] = one_network(recipe, fast, batch, (pngs, jpegs), top, given)
            print(backbone, document[backbone], flush=True)
    return document


def read(path: Path) -> Pixels:
    from knowngood.data.images import decode

    return decode(path)


def one_network(
    recipe: Recipe,
    fast: Session,
    batch: np.ndarray,
    files: tuple[list[Path], list[Path]],
    top: Load,
    given: argparse.Namespace,
) -> dict[str, Any]:
    from knowngood.models.cost import cost_of

    pngs, jpegs = files
    eager = recipe.inspector.members[0]
    images = torch.from_numpy(batch)

    def plainly() -> int:
        with torch.no_grad():
            eager(images)
        return BATCH

    def alone(maps: bool) -> Way:
        return lambda: sum(len(made.raw_scores) for made in fast.runtime.stream([batch] * 2, maps=maps))

    def whole(paths: list[Path], maps: bool = True) -> Way:
        return lambda: sum(1 for _ in fast.stream(stream(paths).items, maps=maps))

    ways: dict[str, Way] = {
        "eager fp32": plainly,
        "engine alone": alone(True),
        "engine alone, no map": alone(False),
        "script, PNG": obvious(recipe, pngs),
        "files to decisions with maps, PNG": whole(pngs),
        "files to decisions with maps, JPEG": whole(jpegs),
        "peak": lambda: (top.run(), 1)[1],
    }
    rates = timed(ways, given.rounds)
    flops = cost_of(recipe.manifest.networks[0]).flops / 1e9
    ours, jpeg = rates["files to decisions with maps, PNG"], rates["files to decisions with maps, JPEG"]
    peak = rates.pop("peak") * top.gflop
    return {
        "images/s": {name: round(rate, 2) for name, rate in rates.items()},
        "engine alone / eager fp32": round(rates["engine alone"] / rates["eager fp32"], 2),
        "share of int8 peak": round(rates["engine alone"] * flops / peak, 3),
        "files to decisions / engine alone": {
            "PNG": round(ours / rates["engine alone"], 3),
            "JPEG": round(jpeg / rates["engine alone"], 3),
        },
        "files to decisions / obvious script, PNG": round(ours / rates["script, PNG"], 2),
    }


def memory(given: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of `predict` in a process of its own, over links to the same photographs."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        paths = load("elpv").usable().frame["path"].to_list()[:100]
        torch.manual_seed(0)
        made = recipe_of("resnet18")
        small = made.manifest.networks[0].model_copy(update={"height": 32, "width": 32})
        Recipe(made.manifest.model_copy(update={"networks": (small,)}), Inspector((small,))).save(place / "recipe")
        for count in given.counts:
            folder = place / str(count)
            for number in range(count):
                inside = folder / f"{number // 1000:04}"
                if number % 1000 == 0:
                    inside.mkdir(parents=True)
                (inside / f"{number:07}.png").symlink_to(paths[number % len(paths)])
            words = [sys.executable, __file__, "one", "--recipe", place / "recipe", "--folder", folder]
            done = subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True)
            found[str(count)] = round(float(done.stdout.split()[-1]), 1)
            print(count, found[str(count)], "MiB", flush=True)
    first, *_, last = found.values()
    return {"peak MiB by images": found, "last / first": round(last / first, 4)}


def one(given: argparse.Namespace) -> None:
    from knowngood.recipe.predicting import predict

    predict(given.recipe, given.folder, out=Path(given.folder).with_suffix(".csv"))
    status = Path("/proc/self/status").read_text()  # getrusage would give the parent's peak where that was larger
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def parity(given: argparse.Namespace) -> dict[str, Any]:
    """Test images of a run, by the recipe and by its int8 export: they were used for neither ranges nor thresholds."""
    from knowngood.metrics.figures import auroc, fpr_at_tpr

    made = export(given.run, precision="int8", tolerance=Tolerance(max_score=given.max_score))
    table = pl.read_parquet(Path(given.run) / "scores.parquet").filter(pl.col("split") == "test")
    labels, items = table["label"].to_numpy(), table["path"].to_list()
    scores, cuts = {}, {}
    for runtime in ("torch", "openvino"):
        opened = open_session(given.run, runtime)
        found = [o.prediction.defect_score for o in opened.stream(stream(items).items)]
        scores[runtime], cuts[runtime] = np.array(found, float), opened.thresholds.accept_below
    return {
        "run": str(given.run),
        "gate": made.document.parity,
        "wide": list(made.document.wide),
        "test": {
            name: {
                "auc": auroc(labels, values),
                "fpr at tpr 0.995": fpr_at_tpr(labels, values, 0.995),
                "escapes": int((values[labels == 1] < cuts[name]).sum()),
                "overkill": float((values[labels == 0] >= cuts[name]).mean()),
            }
            for name, values in scores.items()
        },
        "test scores, mean difference": float(np.abs(scores["torch"] - scores["openvino"]).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["speed", "memory", "parity", "one"])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--sample", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 20000])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--max-score", type=float, default=0.05)
    parser.add_argument("--recipe")
    parser.add_argument("--folder")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    if given.parts == ["one"]:
        one(given)
        return
    document: dict[str, Any] = {
        "what": __doc__.splitlines()[0],
        "command": "python " + shlex.join(sys.argv),
        "load of the machine before": round(os.getloadavg()[0], 2),
        "threads": torch.get_num_threads(),
        "versions": versions() | versions_of("openvino", "nncf"),
    }
    for part in given.parts:
        document[part] = {"speed": speed, "memory": memory, "parity": parity}[part](given)
        write_json(given.out, document)
    print(document)


if __name__ == "__main__":
    main()
