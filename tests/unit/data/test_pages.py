"""Multi-page TIFF files: every page is found, reads as a file of its own, and keeps each sample."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from knowngood.data.health import check
from knowngood.data.images import decode, probe, read_bytes
from knowngood.data.loading import load
from knowngood.data.pages import file_of, page_bytes, pages_of, split_page, without_suffix
from knowngood.data.sources.walking import Walker
from knowngood.errors import ImageError
from knowngood.recipe.inputs import stream
from knowngood.recipe.predicting import pictures


def kinds() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 255, (41, 31, 3), np.uint8))
    return [
        Image.fromarray(rng.integers(0, 255, (40, 30), np.uint8)),
        colour,
        Image.fromarray(rng.integers(0, 65536, (42, 32)).astype(np.uint16)),
        colour.convert("1"),
        colour.convert("P"),
        colour.convert("RGBA"),
        colour.convert("CMYK"),
        Image.fromarray(rng.random((44, 34)).astype(np.float32)),
    ]


def stack(path: Path, images: list[Image.Image], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images[0].save(path, save_all=True, append_images=images[1:], **options)
    return path


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("big", [False, True])
def test_pages_of_all_kinds_keep_every_sample(tmp_path: Path, compression: str | None, big: bool) -> None:
    images = kinds()
    file = stack(tmp_path / "s.tif", images, compression=compression, big_tiff=big)
    pages, remark = pages_of(file)
    assert [page.name for page in pages] == [f"s.tif#page={k}" for k in range(1, len(images) + 1)]
    assert remark is None
    for number, (page, image) in enumerate(zip(pages, images, strict=True), 1):
        data = read_bytes(page)
        with Image.open(io.BytesIO(data)) as one:
            assert (one.mode, one.size, one.n_frames) == (image.mode, image.size, 1)
            np.testing.assert_array_equal(np.asarray(one), np.asarray(image))
        assert data == page_bytes(file.read_bytes(), number)
        assert probe(page).width == image.width
    assert decode(pages[0]).shape == (40, 30)
    np.testing.assert_array_equal(decode(file), decode(pages[0]))  # without a page the first picture counts


def test_jpeg_pages_share_no_tables(tmp_path: Path) -> None:
    images = [image.convert("RGB") for image in kinds()[:2]]
    file = stack(tmp_path / "s.TIFF", images, compression="jpeg")
    with Image.open(file) as whole:
        for number, page in enumerate(pages_of(file)[0]):
            whole.seek(number)
            with Image.open(io.BytesIO(read_bytes(page))) as one:
                np.testing.assert_array_equal(np.asarray(one), np.asarray(whole))


def test_equal_pages_have_equal_bytes(tmp_path: Path) -> None:
    one, two = kinds()[:2]
    pages, _ = pages_of(stack(tmp_path / "s.tif", [one, two, one]))
    first, second, third = map(read_bytes, pages)
    assert first == third
    assert first != second


def tiff(*directories: dict[int, int], follow: int | None = None) -> bytes:
    """A little-endian TIFF of 2 x 2 grey pictures; `follow` is where the last directory points."""
    data = b"\7\7\7\7"
    at = 8 + len(data)
    out = b"II*\0" + struct.pack("<I", at) + data
    for number, extra in enumerate(directories):
        tags = {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 4} | extra
        length = 2 + 12 * len(tags) + 4
        following = at + length if number + 1 < len(directories) else (follow or 0)
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
        out += struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
        at += length
    return out


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (tiff({}), ["s.tif"]),
        (tiff({}, {254: 1}), ["s.tif"]),  # a thumbnail behind the picture
        (tiff({}, {255: 2}, {254: 4}), ["s.tif"]),  # the old tag, and a mask
        (tiff({254: 1}, {}), ["s.tif#page=1"]),  # a thumbnail before it: the file's first picture is not its page
        (tiff({}, {254: 1}, {}, {254: 1}), ["s.tif#page=1", "s.tif#page=2"]),
        (tiff({254: 2}, {254: 2}), ["s.tif#page=1", "s.tif#page=2"]),  # bit 1 means a page of a document
        (tiff({254: 1}), ["s.tif"]),
    ],
)
def test_thumbnails_and_masks_are_no_pages(tmp_path: Path, data: bytes, names: list[str]) -> None:
    (tmp_path / "s.tif").write_bytes(data)
    pages, remark = pages_of(tmp_path / "s.tif")
    assert [page.name for page in pages] == names
    assert remark is None
    assert all((decode(page) == 7).all() for page in pages)


@pytest.mark.parametrize("follow", [12, 5, 1 << 31, 8])
def test_a_chain_in_circles_or_into_nowhere_ends(tmp_path: Path, follow: int) -> None:
    (tmp_path / "s.tif").write_bytes(tiff({}, {}, follow=follow))
    pages, remark = pages_of(tmp_path / "s.tif")
    assert len(pages) == 2
    assert remark
    walker = Walker()
    assert len(list(walker.images(tmp_path))) == 2
    assert walker.passed_over.counts == {"pages behind the damage, in a TIFF file whose list of pages is damaged": 1}
    assert walker.passed_over.sentences()[0].endswith("is damaged: 1 (such as s.tif).")


def test_damage_is_an_error_of_that_page_alone(tmp_path: Path) -> None:
    file = tmp_path / "s.tif"
    file.write_bytes(tiff({}, {279: 4000}, {256: 0}, {273: 1 << 30}))
    one, two, three, four = pages_of(file)[0]
    assert decode(one).shape == (2, 2)
    for page in (two, three, four):
        with pytest.raises(ImageError, match=r"s\.tif"):
            decode(page)
    with pytest.raises(ImageError, match="4 pages, no page 5"):
        decode(f"{file}#page=5")
    with pytest.raises(ImageError, match="no file"):
        read_bytes(tmp_path / "gone.tif#page=1")
    (tmp_path / "text.tif").write_text("no TIFF")
    assert pages_of(tmp_path / "text.tif") == ([tmp_path / "text.tif"], None)


def test_a_file_of_that_very_name_counts(tmp_path: Path) -> None:
    stack(tmp_path / "s.tif", kinds()[:2])
    Image.new("L", (9, 9), 3).save(tmp_path / "s.tif#page=2", format="PNG")
    assert decode(tmp_path / "s.tif#page=2").shape == (9, 9)
    assert file_of(tmp_path / "s.tif#page=2").name == "s.tif#page=2"
    assert file_of(tmp_path / "s.tif#page=1").name == "s.tif"


def test_names() -> None:
    assert split_page("a/b.tif#page=12") == ("a/b.tif", 12)
    for name in ("a.tif", "a.tif#page=0", "a.png#page=1", "a.tif#page=1.png", "#page=1"):
        assert split_page(name) == (name, None)
    assert without_suffix("lot/a.tif#page=2") == "lot/a#page=2"
    assert without_suffix("lot/a.b.png") == "lot/a.b"


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    frames = [Image.fromarray(rng.integers(0, 255, (40, 40), np.uint8)) for _ in range(5)]
    stack(tmp_path / "good" / "g.tif", frames[:3])
    stack(tmp_path / "chip" / "c.tiff", frames[3:])
    marks = [Image.new("L", (40, 40), value) for value in (0, 255)]
    stack(tmp_path / "masks" / "chip" / "c_mask.tif", marks)
    return tmp_path


def test_sources_list_pages_and_masks_follow_them(stacks: Path) -> None:
    frame = load(stacks).frame
    assert frame.select("image", "label").rows() == [
        ("chip/c.tiff#page=1", 1),
        ("chip/c.tiff#page=2", 1),
        *[(f"good/g.tif#page={k}", 0) for k in (1, 2, 3)],
    ]
    assert frame["sha256"].n_unique() == 5
    assert frame["error"].null_count() == 5
    assert [decode(mask).max() for mask in frame["mask"][:2]] == [0, 255]
    assert {finding.code for finding in check(stacks).findings}.isdisjoint({"unreadable", "mask-size"})


def test_a_table_says_when_pages_are_left_out(stacks: Path) -> None:
    (stacks / "set.csv").write_text("image,label\ngood/g.tif,good\nchip/c.tiff#page=2,bad\n")
    records = load(stacks / "set.csv")
    assert records.frame["error"].null_count() == 2
    assert records.frame["height"].to_list() == [40, 40]
    assert "g.tif#page=2" in " ".join(records.notes)


def test_predicting_takes_each_page(stacks: Path) -> None:
    places = (stacks / "chip", [stacks / "chip" / "c.tiff"], [f"{stacks}/chip/c.tiff#page=1", stacks / "chip"])
    for place in places:
        found = stream(place)
        names = [item.name for item in found.items]
        assert names == [f"{stacks}/chip/c.tiff#page={k}" for k in (1, 2)]
    assert stream(stacks / "chip" / "c.tiff").total == 2
    lines = io.StringIO(f"{stacks}/chip/c.tiff\n")
    assert len({item.read() for item in stream("-", lines).items}) == 2
    assert [path.name for path in pictures([stacks / "chip" / "c.tiff"])] == ["c.tiff#page=1", "c.tiff#page=2"]
