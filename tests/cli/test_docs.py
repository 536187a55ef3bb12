"""Every command and every Python block of README and docs, run in order on a small set; every link leads somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(console|python)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
RUNNABLE = [  # pages that tell how to add something show files, not programs
    page for page in PAGES if BLOCK.search(page.read_text()) and not page.name.startswith(("CONTRIBUTING", "add-"))
]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def workplace(
    tmp_path: Path, parts: Path, trained_run: Path, monkeypatch: pytest.MonkeyPatch, small: tuple[str, ...]
) -> Path:
    """A folder with what the docs speak of: photos/, new/, parts.csv, sample_submission.csv and runs/first."""
    shutil.copytree(parts, tmp_path / "photos")
    (tmp_path / "new").mkdir()
    for number, image in enumerate(sorted((parts / "chip").iterdir())[:4], 1):
        shutil.copy(image, tmp_path / "new" / f"part_{number:03}.png")
    lines = [
        f"photos/{p.relative_to(parts)},{'good' if p.parent.name == 'good' else 'bad'}" for p in parts.rglob("*.png")
    ]
    (tmp_path / "parts.csv").write_text("image,label\n" + "\n".join(lines) + "\n")
    (tmp_path / "sample_submission.csv").write_text("id,label\npart_002,0\npart_001,0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_what_a_page_says_works(
    page: Path, workplace: Path, run_cli: Callable[..., Any], small: tuple[str, ...], trained_run: Path
) -> None:
    makes_first = "train photos --out runs/first" in page.read_text()
    if not makes_first:
        shutil.copytree(trained_run, workplace / "runs" / "first")
    for _, kind, body in BLOCK.findall(page.read_text()):
        if kind == "python":
            # the command above it has made the same run; Python finds it finished and returns it
            text = body.replace('"runs/first")\n', f'"runs/first", model="{small[1]}", image_size={small[3]})\n', 1)
            exec(compile(text if "train(" in body else body, str(page), "exec"), {})
            continue
        commands = [line[2:] for line in body.splitlines() if line.startswith("$ ")]
        assert commands, f"a console block without a command in {page}"
        for command in commands:
            words = shlex.split(command)
            assert words[0] == "knowngood"
            answer = run_cli(*words[1:], *(small if words[1] == "train" else ()))
            assert answer.code == 0, f"{command}\n{answer.err}"
            if "--out" in words:
                assert Path(words[words.index("--out") + 1]).exists(), command


def test_the_source_that_contributing_shows_works(tmp_path: Path, parts: Path) -> None:
    from knowngood.data.loading import load
    from knowngood.data.sources import SOURCES

    body = next(m[2] for m in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()) if "class PrefixSource" in m[2])
    names: dict[str, Any] = {}
    exec(textwrap.dedent(body), names)
    for kind, image in (("OK", "good/good_000.png"), ("NG", "chip/chip_000.png")):
        shutil.copy(parts / image, tmp_path / f"{kind}_1.png")
    SOURCES.register("prefix", names["PrefixSource"])
    try:
        assert load(tmp_path).counts() == {"good": 1, "bad": 1, "unlabelled": 0}
    finally:
        SOURCES.unregister("prefix")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", page.read_text()):
        link = target[0] or target[1]
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), f"{link} in {page}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", place.read_text(), re.MULTILINE)
            anchors = [
                re.sub(r"[^\w -]", "", head.strip().lower()).replace(" ", "-") for head in heads
            ]  # as GitHub does
            assert anchor in anchors, f"{link} in {page}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_of_the_repository_that_a_page_names_are_there(page: Path) -> None:
    for name in re.findall(r"(?:benchmarks|docs/images|tests)/[\w./*-]*\.[a-z]+", page.read_text()):
        assert any(ROOT.glob(name)), f"{name} in {page}"


def test_options_that_the_docs_name_exist(run_cli: Callable[..., Any]) -> None:
    known = set()
    from knowngood.cli.main import app

    groups = [("", app), *((str(group.name), group.typer_instance) for group in app.registered_groups)]
    for group, verbs in groups:
        for verb in (c.name or c.callback.__name__ for c in verbs.registered_commands if c.callback):
            known |= set(re.findall(r"--[a-z][a-z-]+", run_cli(*filter(None, (group, verb)), "--help").out))
    known |= {"--help", "--version", "--install-completion", "--show-completion"}
    known |= {"--head"}  # of `ray start`
    option, script = r"(?<![\w-])--[a-z][a-z-]+", re.compile(r"python (benchmarks/\w+\.py)([^`\n]*(?:\n[^`\n]+)?)`")
    for page in PAGES:
        for file, rest in script.findall(page.read_text()):
            held = (ROOT / file).read_text()
            assert all(f'"{one}"' in held for one in re.findall(option, rest)), f"{file}{rest} in {page}"
        named = set(re.findall(option, script.sub("", page.read_text())))
        assert named <= known, f"{sorted(named - known)} in {page}"


def test_the_changelog_names_this_version() -> None:
    import knowngood

    assert f"[{knowngood.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
