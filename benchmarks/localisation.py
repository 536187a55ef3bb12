"""How well maps and boxes find the defect: pointing game, box IoU, pixel AUROC, AUPRO, by method and defect type.

On the look-alike (exact masks) and on the magnetic tiles (masks drawn by people; split by part). Two inspectors a set:
the quick preset (frozen network, SVM head) and, where a run of it is given, a fine-tuned network of the look-alike.
Everything is measured on truly bad test images; "visible" are severities from 0.35 up, which only the look-alike has.

    python benchmarks/localisation.py tape --model efficientnet_lite2
    python benchmarks/localisation.py tape --run RUN      # of `knowngood train`, such as tape_difficulty.py leaves
    python benchmarks/localisation.py magnetic-tile
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from faithfulness import faithfulness
from magnetic_tile import DATA, manifest
from torch.nn import functional

from knowngood.cam.maps import heat_of, layer_maps, method_for, placed_maps
from knowngood.cam.regions import aupro, best_iou, boxes_of, pixel_auroc, pointing_hit, regions_of
from knowngood.cli.output import at_work
from knowngood.data.images import decode, read_mask
from knowngood.data.loading import load
from knowngood.data.records import BAD, Records
from knowngood.errors import ConfigError
from knowngood.files import write_json
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.maps import at_size
from knowngood.workflows.runs import versions
from knowngood.workflows.train import train

RESULTS = Path(__file__).parent / "results"
TAPE = "tape:train=1500,test=1000,bad_rate=0.2,seed=0"
STRETCHED = "stretched-evenly"  # as everybody does it: cells spread over the picture without regard to paddings
METHODS = ("cam", f"cam {STRETCHED}", "gradcam", "gradcam++", "layercam", "hirescam", "eigencam")
LAYERED = ("gradcam layer3", "layercam layer3", "hirescam layer3", "hirescam layer2")  # of ResNets
VISIBLE, FAITHFUL = 0.35, 40


def judged(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over some images."""
    if not found:
        return {"images": 0}
    return {
        "images": len(found),
        "pointing game": round(float(np.mean([f["hit"] for f in found])), 4),
        "pointing game, 15 px": round(float(np.mean([f["near"] for f in found])), 4),
        "box IoU": round(float(np.mean([f["iou"] for f in found])), 4),
        "box IoU >= 0.3": round(float(np.mean([f["iou"] >= 0.3 for f in found])), 4),
    }


def heats(recipe: Recipe, rows: list[dict[str, Any]], method: str) -> Iterator[np.ndarray]:
    """Maps at the photographs' size: a method's, or those of one layer ("hirescam layer3"), or CAM stretched evenly."""
    name, _, layer = method.partition(" ")
    if not layer:
        yield from (one.values for one in recipe.maps([r["path"] for r in rows], method=name))
        return
    network: Any = recipe.inspector.members[0]
    for row in rows:
        image = decode(row["path"])
        batch = torch.from_numpy(recipe.fitted(image)[None])
        if layer == STRETCHED:
            (raw,) = layer_maps(network, batch, method_for(network, name)).maps.values()
            heat = functional.interpolate(raw[:, None], batch.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        else:
            heat = placed_maps(network, batch, method_for(network, name), layer).maps[layer]
        yield at_size(heat[0].numpy(), *image.shape[:2])


def by_method(recipe: Recipe, rows: list[dict[str, Any]], method: str) -> dict[str, Any]:
    """Every figure of one method on bad images with masks."""
    found, maps, masks = [], [], []
    started = time.perf_counter()
    for row, heat in zip(rows, heats(recipe, rows, method), strict=True):
        mask = read_mask(row["mask"], heat.shape)
        regions = regions_of(heat)
        box = regions[0].box if regions else None
        found.append(
            {
                "hit": pointing_hit(heat, mask),
                "near": pointing_hit(heat, mask, tolerance=15),
                "iou": best_iou(box, boxes_of(mask)),
                "defect": row["defect"],
                "severity": row["severity"],
            }
        )
        maps.append(heat.astype(np.float32))
        masks.append(mask)
    seconds = time.perf_counter() - started
    visible = [f for f in found if f["severity"] is None or f["severity"] >= VISIBLE]
    return {
        "all": judged(found),
        "visible": judged(visible),
        "by defect (visible)": {
            kind: judged([f for f in visible if f["defect"] == kind]) for kind in sorted({f["defect"] for f in visible})
        },
        "pixel AUROC": round(pixel_auroc(maps, masks) or 0.5, 4),
        "AUPRO": round(aupro(maps, masks), 4),
        "images/s, files to maps": round(len(rows) / seconds, 1),
    }


def faithful(recipe: Recipe, rows: list[dict[str, Any]], method: str) -> dict[str, float]:
    """Returns the mean raw scores while marked places are removed and restored; see `faithfulness`."""
    inspector, made = recipe.inspector, []

    def score(batch: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return inspector(batch)

    for row in rows[:FAITHFUL]:
        image = torch.from_numpy(recipe.fitted(decode(row["path"])))
        _, heat = heat_of(inspector, image[None], method)
        made.append(faithfulness(score, image, heat[0].cpu()))
    return {
        name: round(float(np.mean([getattr(m, name) for m in made])), 4)
        for name in ("deletion", "random_deletion", "insertion", "random_insertion")
    }


def tape_rows(folder: Path) -> list[dict[str, Any]]:
    table = pl.read_parquet(folder / "manifest.parquet").filter(
        (pl.col("split") == "test") & (pl.col("true_label") == "bad") & pl.col("mask").is_not_null()
    )
    return [
        {
            "path": str(folder / r["image"]),
            "mask": str(folder / r["mask"]),
            "defect": r["true_defect"],
            "severity": r["severity"],
        }
        for r in table.iter_rows(named=True)
    ]


def tile_rows(records: Records, run: Path) -> list[dict[str, Any]]:
    test = pl.read_parquet(run / "records.parquet").filter((pl.col("split") == "test") & (pl.col("label") == BAD))
    rows = []
    for r in test.iter_rows(named=True):
        mask = DATA / "masks" / f"{Path(r['path']).stem}.png"
        if mask.is_file() and decode(mask).any():
            rows.append({"path": r["path"], "mask": str(mask), "defect": r["defect"], "severity": None})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=["tape", "magnetic-tile"])
    parser.add_argument(
        "--run", type=Path, help="a finished run of two classes on the look-alike; quick one if not given"
    )
    parser.add_argument("--folder", type=Path, help="the look-alike set that the run was trained on, with its masks")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--most", type=int, default=400, help="bad test images at most")
    parser.add_argument("--runs", type=Path, default=Path("runs/localisation"))
    given = parser.parse_args()
    with at_work():
        if given.set == "tape":
            records = None if given.folder else load(TAPE)
            folder = given.folder or Path(records.root)  # type: ignore[union-attr]
            run = given.run or train(records, given.runs / f"tape-{given.model}", model=given.model).folder  # type: ignore[arg-type]
            rows = tape_rows(folder)
        else:
            records = load(manifest(DATA, given.runs / "tile.csv"))
            run = given.run or train(records, given.runs / f"tile-{given.model}", model=given.model).folder
            rows = tile_rows(records, run)
        recipe = Recipe.load(run)
        rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[: given.most]]
        methods: dict[str, Any] = {}
        linear = recipe.manifest.networks[0].head == "linear"
        for method in (*METHODS, *(LAYERED if linear else ())):
            try:
                methods[method] = by_method(recipe, rows, method)
                if " " not in method:
                    methods[method]["faithfulness"] = faithful(recipe, rows, method)
            except ConfigError as error:
                methods[method] = {"none": error.what}
                continue
            print(
                method, methods[method]["visible"], methods[method]["pixel AUROC"], methods[method]["AUPRO"], flush=True
            )
    networks = [f"{c.backbone}, {c.head} head, {c.height} x {c.width}" for c in recipe.manifest.networks]
    name = f"{given.set.replace('-', '_')}_{recipe.manifest.networks[0].backbone}_{recipe.manifest.networks[0].head}"
    out = RESULTS / f"localisation_{name}.json"
    write_json(
        out,
        {
            "what": __doc__.splitlines()[0],
            "command": "python " + shlex.join(sys.argv),
            "networks": networks,
            "test AUC": recipe.manifest.metrics["test"]["auroc"],
            "methods": methods,
            "machine": {"cores": os.cpu_count(), "gpu": None},
            "versions": versions(),
        },
    )
    print(f"Figures: {out}")


if __name__ == "__main__":
    main()
