"""Options: what is wrong is named, nothing is written, a run is never overwritten by accident."""

from __future__ import annotations

import enum
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_origin

import pytest

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "resnet5"], ("no model named 'resnet5'", "did you mean resnet50")),
        (["--augment", "studdy"], ("no augmentation policy 'studdy'", "quarter_turns")),
        (["--image-size", "7"], ("--image-size 7", "greater than or equal to 32")),
        (["--image-size", "abc"], ("--image-size", "integer")),
        (["--escape-budget", "0"], ("--escape-budget", "greater than 0")),
        (["--preset", "fast"], ("--preset", "'fast'", "best")),
        (["--source", "mvtek"], ("no data source named 'mvtek'", "did you mean mvtec")),
        (["--nonsense"], ("No such option", "--nonsense")),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_wrong_value_is_named(
    run_cli: Run,
    parts: Path,
    tmp_path: Path,
    small: tuple[str, ...],
    options: list[str],
    words: tuple[str, ...],
    as_json: bool,
) -> None:
    answer = run_cli("train", parts, "--out", tmp_path / "run", *small, *options, *(["--json"] if as_json else []))
    assert answer.code == 2
    assert "Traceback" not in answer.err
    told = " ".join(answer.err.replace("│", " ").split())
    for word in words:
        assert word in told
    if as_json:
        assert set(answer.json["error"]) == {"what", "expected", "fix"}
        assert answer.json["error"]["what"]
    else:
        assert answer.out == ""


def test_a_start_that_failed_does_not_block_the_next(
    run_cli: Run, parts: Path, tmp_path: Path, small: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    (tmp_path / "nowhere").mkdir()
    first = run_cli("train", parts, "--out", run, *small, "--weights", tmp_path / "nowhere")
    assert first.code == 2
    assert "holds no weights of efficientnet_lite0" in first.err
    again = run_cli("train", parts, "--out", run, *small, "--no-pretrained")
    assert again.code == 2
    assert "--preset standard --no-pretrained" in again.err
    assert run_cli("train", parts, "--out", run, *small).code == 0


def test_a_finished_run_is_kept(run_cli: Run, parts: Path, trained_run: Path, small: tuple[str, ...]) -> None:
    before = {p: p.read_bytes() for p in trained_run.rglob("*") if p.is_file()}
    same = run_cli("train", parts, "--out", trained_run, *small)
    assert same.code == 0
    assert "finished already" in same.err
    other = run_cli("train", parts, "--out", trained_run, *small, "--seed", "3")
    assert other.code == 2
    assert "other options (seed)" in other.err
    assert {p: p.read_bytes() for p in trained_run.rglob("*") if p.is_file()} == before


def test_no_run_is_made_over_other_files(run_cli: Run, parts: Path, tmp_path: Path, small: tuple[str, ...]) -> None:
    mine = tmp_path / "mine" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    for force in ([], ["--force"]):
        answer = run_cli("train", parts, "--out", mine.parent, *small, *force)
        assert answer.code == 2
        assert "holds no run" in answer.err
    assert run_cli("train", parts, "--out", mine, *small).code == 2
    assert mine.read_text() == "years of work"


def test_options_are_the_fields_of_the_configuration(run_cli: Run) -> None:
    from knowngood import TrainConfig

    shown = run_cli("train", "--help").out
    for name in TrainConfig.model_fields:
        assert "--" + name.replace("_", "-") in shown


@pytest.mark.parametrize("words", [["trian"], ["predict"], ["predict", "somewhere"], ["train", "data"], []])
def test_usage_mistakes_exit_with_2(run_cli: Run, words: list[str]) -> None:
    answer = run_cli(*words)
    assert answer.code in ((0, 2) if not words else (2,))
    assert "Traceback" not in answer.err
    if words:
        assert json.loads(run_cli(*words, "--json").out)["error"]["what"]


def test_weights_lists_networks_and_refuses_unknown_names(run_cli: Run) -> None:
    rows = {row["model"]: row for row in run_cli("weights", "--json").json}
    assert rows["efficientnet_lite0"]["here"]
    assert "Apache" in rows["efficientnet_lite0"]["licence"]
    assert rows["resnet50_front"]["package"] == rows["resnet50"]["package"]  # it takes the weights of the whole
    answer = run_cli("weights", "--fetch", "nono")
    assert answer.code == 2
    assert "no model named 'nono'" in answer.err


def hash_of(run: Path) -> str:
    return hashlib.sha256((run / "recipe" / "weights.safetensors").read_bytes()).hexdigest()


def test_a_run_is_repeated_from_its_folder(run_cli: Run, trained_run: Path, tmp_path: Path) -> None:
    answer = run_cli("train", "--config", trained_run / "config.json", "--out", tmp_path / "again")
    assert answer.code == 0, answer.err
    assert hash_of(tmp_path / "again") == hash_of(trained_run)
    first, again = (json.loads((run / "config.json").read_text()) for run in (trained_run, tmp_path / "again"))
    assert again["config"] == first["config"] | {"model": first["repeat"]["model"]}


def test_what_is_typed_beats_the_file(run_cli: Run, parts: Path, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text('escape-budget = 0.3\nimage_size = 7\nmodel = "efficientnet_lite0"\npretrained = true\n')
    out = ("--out", tmp_path / "run")
    assert "--image-size 7" in run_cli("train", parts, *out, "--config", file).err
    answer = run_cli("train", parts, *out, "--config", file, "--image-size", 64, "--no-pretrained")
    assert "--no-pretrained" in answer.err  # a quick training starts from pretrained weights: refused
    assert run_cli("train", parts, *out, "--config", file, "--image-size", 64).code == 0
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (kept["escape_budget"], kept["image_size"], kept["model"]) == (0.3, 64, "efficientnet_lite0")


@pytest.mark.parametrize(
    ("verb", "text", "words"),
    [
        ("train", "epoch = 3", ("'epoch'", "epochs")),
        ("train", "memory = 3", ("'memory'", "coreset-size")),
        ("train", "epochs = [", ("cannot be read", "TOML")),
        ("train", "[nested]\nepochs = 3", ("'nested'",)),
        ("serve", "unsigned = true", ("'unsigned'", "allow-unapproved")),
        ("study", 'preset = "paper"', ("paper", "best")),
    ],
)
def test_a_file_of_options_is_checked(
    run_cli: Run, parts: Path, trained_run: Path, tmp_path: Path, verb: str, text: str, words: tuple[str, ...]
) -> None:
    file = tmp_path / "options.toml"
    file.write_text(text)
    place = (trained_run,) if verb == "serve" else (parts, "--out", tmp_path / "run")
    answer = run_cli(verb, *place, "--config", file)
    assert answer.code == 2
    assert all(word in answer.err for word in words), answer.err
    assert not (tmp_path / "run").exists()


def verbs() -> dict[str, Any]:
    from typer.main import get_command

    from knowngood.cli.main import app

    top = get_command(app).commands
    return {name: one for name, one in top.items() if not hasattr(one, "commands")} | {
        f"{name} {inner}": one for name, group in top.items() for inner, one in getattr(group, "commands", {}).items()
    }


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_many_options_are_grouped_and_come_from_a_file_too(run_cli: Run, verb: str) -> None:
    flags = [flag for param in verbs()[verb].params for flag in param.opts if flag.startswith("--")]
    shown = run_cli(*verb.split(), "--help").out
    assert all(flag in shown for flag in flags)
    assert ("--config" in flags) == (len(flags) > 12), flags
    assert ("Advanced options" in shown) == (len(flags) > 8), flags


def test_options_of_one_name_take_the_same_kind_of_value() -> None:
    """A list of names (compare) is several of what the others take one of; the rest is of one type everywhere."""
    several = {("compare", "--freeze"), ("compare", "--balance"), ("train", "--detector")}
    amounts = {("tape", "--test"), ("tape", "--train")}  # of images, not a share of them
    words = {("train", "--image-size")}  # a number as elsewhere, or auto or own
    kinds: dict[str, dict[str, str]] = {}
    for verb, command in verbs().items():
        for param in command.params:
            flag = max(param.opts, key=len)
            if flag.startswith("--") and (verb, flag) not in several | amounts | words:
                kinds.setdefault(flag, {})[verb] = kind_of(param)
    assert not {flag: found for flag, found in kinds.items() if len(set(found.values())) > 1}


def kind_of(param: Any) -> str:
    annotation = param.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "str"
    return "str" if get_origin(annotation) is Literal else str(getattr(annotation, "__name__", annotation))


COMPUTE = ("train", "study", "compare", "classical", "audit", "predict", "explain", "features", "export")


@pytest.mark.parametrize("verb", [*COMPUTE, "synthesize train", "synthesize sample", "synthesize judge"])
def test_a_verb_that_computes_takes_a_device(verb: str) -> None:
    assert "--device" in [flag for param in verbs()[verb].params for flag in param.opts]


def test_a_gpu_that_is_not_there_is_said_at_once(run_cli: Run, parts: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    answer = run_cli("train", parts, "--out", tmp_path / "run", "--device", "cuda")
    assert answer.code == 2
    assert "--device cuda" in answer.err
    assert "--device auto" in answer.err
    assert not (tmp_path / "run").exists()


def test_the_processor_hides_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    from knowngood.environment import use_device

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    use_device("cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
