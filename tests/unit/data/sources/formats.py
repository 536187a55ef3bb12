"""Writes one set of photographs in each annotation format, so that all of them can be compared with the same truth.

The photographs: `good` ones without anything, and bad ones with outlines of defects in pixels.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image, ImageDraw

Outline = list[tuple[float, float]]


@dataclass
class Photo:
    """A photograph: its file, its size, and class and outline of each defect."""

    file: Path
    width: int
    height: int
    defects: list[tuple[str, Outline]]

    @property
    def name(self) -> str:
        return self.file.name


def photographs(folder: Path, good: int = 4, bad: int = 4) -> list[Photo]:
    """Draws photographs of a plain part, the bad ones with one or two dark quadrangles."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    found = []
    for number in range(good + bad):
        width, height = 60 + 2 * number, 48
        defects: list[tuple[str, Outline]] = []
        image = Image.fromarray(rng.integers(90, 160, (height, width), np.uint8))
        if number >= good:
            for kind, x, y, w, h in (("scratch", 8, 10, 12, 6), ("chip", 34, 20, 9, 16))[: 1 + number % 2]:
                outline = [(x, y), (x + w, y + 0.9), (x + w - 2, y + h), (x + 1.3, y + h - 0.9)]  # no centre on an edge
                defects.append((kind, [(float(a), float(b)) for a, b in outline]))
                ImageDraw.Draw(image).polygon(outline, fill=20)
        file = folder / f"{'bad' if defects else 'good'} {number:02}.png"
        image.save(file)
        found.append(Photo(file, width, height, defects))
    return found


def box_of(outline: Outline) -> tuple[float, float, float, float]:
    xs, ys = zip(*outline, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def inside(photo: Photo, outline: Outline) -> np.ndarray:
    """Returns which pixel centres lie in an outline, one by one."""
    from matplotlib.path import Path as Curve

    ys, xs = np.mgrid[: photo.height, : photo.width] + 0.5
    hits = Curve(outline).contains_points(np.stack([xs.ravel(), ys.ravel()], axis=1))
    return hits.reshape(photo.height, photo.width)


def _copy(photos: list[Photo], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        shutil.copy(photo.file, folder)


def _classes(photos: list[Photo]) -> list[str]:
    return sorted({kind for photo in photos for kind, _ in photo.defects})


def columns(bits: np.ndarray) -> list[int]:
    """Returns COCO's run lengths down the columns."""
    counts, value, run = [], 0, 0
    for bit in bits.ravel(order="F").astype(int).tolist():
        if bit != value:
            counts.append(run)
            value, run = bit, 0
        run += 1
    return [*counts, run]


def compressed(counts: list[int]) -> str:
    """Returns run lengths as cocoapi's rleToString writes them."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != -1 if bits & 0x10 else value != 0
            text += chr((bits | 0x20 if more else bits) + 48)
    return text


def coco(photos: list[Photo], root: Path, *, shape: str = "polygon") -> Path:
    _copy(photos, root / "images")
    (root / "annotations").mkdir()
    classes = _classes(photos)
    annotations = []
    for number, photo in enumerate(photos):
        for kind, outline in photo.defects:
            x0, y0, x1, y1 = box_of(outline)
            counts = columns(inside(photo, outline))
            size = [photo.height, photo.width]
            one = {"id": len(annotations), "image_id": number, "category_id": classes.index(kind), "iscrowd": 0}
            one |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": 1}
            one["segmentation"] = {
                "polygon": [[v for point in outline for v in point]],
                "rle": {"counts": compressed(counts), "size": size},
                "counts": {"counts": counts, "size": size},
                "box": [],
            }[shape]
            annotations.append(one)
    document = {
        "images": [{"id": n, "file_name": p.name, "width": p.width, "height": p.height} for n, p in enumerate(photos)],
        "annotations": annotations,
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes)],
    }
    (root / "annotations" / "instances_default.json").write_text(json.dumps(document))
    return root


def yolo(photos: list[Photo], root: Path, *, shape: str = "polygon", beside: bool = False) -> Path:
    classes = _classes(photos)
    folder = root if beside else root / "labels"
    folder.mkdir(parents=True, exist_ok=True)
    _copy(photos, root if beside else root / "images")
    for photo in photos:
        lines = []
        for kind, outline in photo.defects:
            x0, y0, x1, y1 = box_of(outline)
            numbers = [(x0 + x1) / 2 / photo.width, (y0 + y1) / 2 / photo.height]
            numbers += [(x1 - x0) / photo.width, (y1 - y0) / photo.height]
            if shape == "polygon":
                numbers = [v for x, y in outline for v in (x / photo.width, y / photo.height)]
            lines.append(" ".join(map(str, [classes.index(kind), *numbers])))
        if lines:
            (folder / f"{photo.file.stem}.txt").write_text("\n".join(lines))
    (root / "classes.txt").write_text("\n".join(classes))
    return root


def voc(photos: list[Photo], root: Path, *, bitmaps: bool = True) -> Path:
    _copy(photos, root / "JPEGImages")
    for name in ("Annotations", "SegmentationClass"):
        (root / name).mkdir()
    for photo in photos:
        objects, whole = "", np.zeros((photo.height, photo.width), np.uint8)
        for number, (kind, outline) in enumerate(photo.defects, 1):
            x0, y0, x1, y1 = box_of(outline)
            whole[inside(photo, outline)] = number
            sides = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
            objects += f"<object><name>{kind}</name><difficult>1</difficult><bndbox>{sides}</bndbox></object>"
        size = f"<size><width>{photo.width}</width><height>{photo.height}</height><depth>1</depth></size>"
        text = f"<annotation><folder>x</folder><filename>{photo.name}</filename>{size}{objects}</annotation>"
        (root / "Annotations" / f"{photo.file.stem}.xml").write_text(text)
        if bitmaps and objects:
            bitmap = Image.fromarray(whole).convert("P")
            bitmap.putpalette([c for n in range(256) for c in (n, 0, 255 - n)])
            bitmap.putdata(whole.ravel().tolist())
            bitmap.save(root / "SegmentationClass" / f"{photo.file.stem}.png")
    return root


def labelme(photos: list[Photo], root: Path, *, shape: str = "polygon", place: str = "") -> Path:
    for photo in photos:
        _copy([photo], root / place.format("good" if not photo.defects else photo.defects[0][0]))
    for photo in photos:
        shapes = []
        for kind, outline in photo.defects:
            x0, y0, x1, y1 = box_of(outline)
            one = {"label": kind, "shape_type": "polygon", "points": [list(p) for p in outline], "flags": {}}
            if shape == "box":
                one |= {"shape_type": "rectangle", "points": [[x1, y0], [x0, y1]]}
            if shape == "mask":
                part = inside(photo, outline)[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1]
                data = io.BytesIO()
                Image.fromarray(part).save(data, "PNG")
                one |= {"shape_type": "mask", "points": [[x0, y0], [x1, y1]]}
                one["mask"] = base64.b64encode(data.getvalue()).decode()
            shapes.append(one)
        if shapes:
            document = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": photo.name}
            document |= {"imageData": None, "imageHeight": photo.height, "imageWidth": photo.width}
            folder = root / place.format(photo.defects[0][0])
            (folder / f"{photo.file.stem}.json").write_text(json.dumps(document))
    return root


def brush(bits: np.ndarray) -> list[int]:
    """Returns a painted bitmap as Label Studio's brush writes it (thi.ng/rle-pack)."""
    values = np.repeat(bits.ravel().astype(np.uint8) * 255, 4).tolist()
    sizes = [3, 4, 8, 16]
    text = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    at = 0
    while at < len(values):
        end = at
        while end < len(values) and values[end] == values[at] and end - at < 65536:
            end += 1
        length = end - at - 1
        size = next(n for n, bits_of in enumerate(sizes) if length < 2**bits_of)
        text += f"1{size:02b}{length:0{sizes[size]}b}{values[at]:08b}"
        at = end
    text += "0" * (-len(text) % 8)
    return [int(text[place : place + 8], 2) for place in range(0, len(text), 8)]


def label_studio(photos: list[Photo], root: Path, *, shape: str = "polygon") -> Path:
    _copy(photos, root / "photos")
    tasks = []
    for number, photo in enumerate(photos):
        result = []
        for kind, outline in photo.defects:
            x0, y0, x1, y1 = (
                v * 100 / s for v, s in zip(box_of(outline), (photo.width, photo.height) * 2, strict=True)
            )
            value = {"points": [[x * 100 / photo.width, y * 100 / photo.height] for x, y in outline], "closed": True}
            if shape == "rectangle":
                value = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}
            if shape == "brush":
                value = {"format": "rle", "rle": brush(inside(photo, outline))}
            one = {"type": f"{shape}labels", "value": value | {f"{shape}labels": [kind]}, "id": f"r{number}"}
            result.append(one | {"original_width": photo.width, "original_height": photo.height, "image_rotation": 0})
        address = f"/data/upload/3/{number:08x}-{quote(photo.name)}"
        tasks.append({"id": number, "data": {"image": address}, "annotations": [{"id": number, "result": result}]})
    (root / "project-3-at-2026-01-01.json").write_text(json.dumps(tasks))
    return root


def cvat(photos: list[Photo], root: Path, *, shape: str = "polygon") -> Path:
    _copy(photos, root / "images" / "Train")
    text = "<?xml version='1.0' encoding='utf-8'?>\n<annotations><version>1.1</version><meta><task/></meta>"
    for number, photo in enumerate(photos):
        text += (
            f'<image id="{number}" name="{photo.name}" subset="Train" width="{photo.width}" height="{photo.height}">'
        )
        for kind, outline in photo.defects:
            x0, y0, x1, y1 = box_of(outline)
            points = ";".join(f"{x},{y}" for x, y in outline)
            part = inside(photo, outline)[int(y0) : int(y1), int(x0) : int(x1)]
            runs = ", ".join(map(str, columns(part.T)))  # along the rows
            text += {
                "polygon": f'<polygon label="{kind}" points="{points}" z_order="0"></polygon>',
                "box": f'<box label="{kind}" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}" />',
                "mask": f'<mask label="{kind}" rle="{runs}" left="{int(x0)}" top="{int(y0)}" '
                f'width="{part.shape[1]}" height="{part.shape[0]}" />',
            }[shape]
        text += "</image>"
    (root / "annotations.xml").write_text(f"{text}</annotations>")
    return root


# name: (source, writer, whether the format keeps the outline)
WRITERS: dict[str, tuple[str, Callable[[list[Photo], Path], Path], bool]] = {
    "coco polygons": ("coco", coco, True),
    "coco compressed": ("coco", lambda p, r: coco(p, r, shape="rle"), True),
    "coco counts": ("coco", lambda p, r: coco(p, r, shape="counts"), True),
    "coco boxes": ("coco", lambda p, r: coco(p, r, shape="box"), False),
    "yolo polygons": ("yolo", yolo, True),
    "yolo boxes": ("yolo", lambda p, r: yolo(p, r, shape="box"), False),
    "yolo beside": ("yolo", lambda p, r: yolo(p, r, beside=True), True),
    "voc bitmaps": ("voc", voc, True),
    "voc boxes": ("voc", lambda p, r: voc(p, r, bitmaps=False), False),
    "labelme polygons": ("labelme", labelme, True),
    "labelme boxes": ("labelme", lambda p, r: labelme(p, r, shape="box"), False),
    "labelme masks": ("labelme", lambda p, r: labelme(p, r, shape="mask"), True),
    "labelme in class folders": ("labelme", lambda p, r: labelme(p, r, place="{}"), True),
    "label studio polygons": ("label-studio", label_studio, True),
    "label studio boxes": ("label-studio", lambda p, r: label_studio(p, r, shape="rectangle"), False),
    "label studio brush": ("label-studio", lambda p, r: label_studio(p, r, shape="brush"), True),
    "cvat polygons": ("cvat", cvat, True),
    "cvat boxes": ("cvat", lambda p, r: cvat(p, r, shape="box"), False),
    "cvat masks": ("cvat", lambda p, r: cvat(p, r, shape="mask"), True),
}
