"""What was probably meant by a verb, option or value that is not known: the nearest by meaning, then by spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

# Options of earlier versions, by the verbs that had them, and what they are called now.
_RENAMED = {
    "train": {"memory": "coreset-size", "watch": "cam-history"},
    "compare": {"outlier-backbone": "feature-model", "conventional": "classifiers", "variants": "training-sets"},
    "compare-recipes": {"all": "all-images"},
    "classical": {"backbone": "model", "models": "classifiers"},
    "audit": {"backbone": "model", "detector": "detectors", "train-preset": "preset"},
    "features": {"backbone": "model"},
    "cascade": {"student": "student-model"},
    "explain": {"fraction": "cam-threshold"},
    "predict": {"threshold": "accept-below"},
    "serve": {
        "watch": "inbox",
        "unsigned": "allow-unapproved",
        "waiting": "queue-size",
        "images": "image-folder",
    },
    "synthesize train": {"projector": "model", "freeze": "freeze-blocks"},
    "synthesize transplant": {"jitter": "shift", "turn": "rotate", "scale": "zoom"},
    "synthesize judge": {"backbone": "model", "bads": "bad-counts"},
}


def renamed(verb: str, option: str) -> str | None:
    """Returns what an option of an earlier version is called now, without dashes before it, or None.

    Args:
        verb: As it is typed after `knowngood`.
        option: Its old name, with or without dashes before it.
    """
    return _RENAMED.get(verb, {}).get(option.lstrip("-").lower().replace("_", "-"))


_ALIKE = 0.75  # of letters: less is a coincidence

# Options that mean the same, here or in other programs; what a verb has of a line is what was meant.
_OPTIONS = tuple(
    frozenset(line.split())
    for line in (
        "out output output-dir output-folder outdir out-dir save save-dir save-to project dest destination target o",
        "model backbone network net arch architecture encoder base-model student student-model classifier-model m",
        "models backbones networks model",
        "feature-model outlier-backbone outlier-model backbone model network arch",
        "device gpu cuda cpu accelerator",
        "devices gpus accelerators num-gpus",
        "batch-size bs batch batchsize b",
        "learning-rate lr rate eta",
        "image-size size imgsz img-size imgs img-sz input-size resize side student-size compare-size resolution",
        "resolution size image-size imgsz",
        "epochs epoch num-epochs n-epochs max-epochs iterations steps iters kimg e",
        "escape-budget escape-rate escape escapes fnr miss-rate tpr recall sensitivity threshold cutoff",
        "overkill-budget overkill overkill-rate fpr false-positives false-alarms",
        "accept-below threshold thresholds cutoff cut",
        "reject-from reject-above reject-threshold upper-threshold",
        "cam-threshold fraction threshold heatmap-threshold",
        "confidence confidence-level conf alpha certainty",
        "workers jobs num-workers n-jobs njobs threads processes j",
        "worker-cores cores cpus cores-per-worker",
        "force overwrite replace exist-ok clobber yes f y",
        "fresh no-cache recompute rescore overwrite force",
        "one-class good-only unsupervised anomaly anomaly-detection normal-only oneclass",
        "augment augmentation augmentations aug transforms transform policy",
        "weights checkpoint ckpt pretrained-weights init weight load",
        "no-pretrained from-scratch scratch random-init random-weights",
        "pretrained imagenet",
        "weight-decay wd l2 decay",
        "patience early-stopping early-stop",
        "precision amp fp16 half bf16 fp32 int8 dtype mixed-precision quantize quantise",
        "to format export-format onnx openvino target",
        "test test-size test-split test-share test-ratio test-fraction holdout hold-out",
        "val valid validation val-size val-split validation-split valid-size",
        "calibration calib calibration-split calibration-size",
        "seed random-state random-seed rng s",
        "seeds repeats repetitions runs n-seeds",
        "json as-json machine-readable",
        "host bind ip listen interface",
        "address host head cluster ray-address",
        "engine cluster ray distributed",
        "port p",
        "db database sqlite postgres record",
        "inbox watch hot-folder watch-folder watch-dir incoming camera",
        "cam-history watch film gradcam",
        "without exclude outliers drop",
        "verdicts labels corrections relabel",
        "roi region crop bbox box area mask",
        "mask-leads leads",
        "method cam cam-method map-method",
        "layers layer stages stage",
        "raw npy arrays",
        "runtime backend executor device cuda gpu cpu",
        "detectors detector algorithm algo",
        "coreset-size memory coreset patches",
        "folds cv kfold k-fold n-folds",
        "resplit reshuffle new-split shuffle split",
        "count number num num-samples n n-samples samples",
        "preset quality mode",
        "balance class-weight class-weights sampler weighted oversample",
        "freeze frozen freeze-backbone",
        "tokens token auth",
        "allow-unapproved unsigned unapproved",
        "queue-size waiting queue",
        "unit-from units group-by groups group unit",
        "good ok pass normal positive",
        "bad ng defect defects fail reject negative",
        "sample submission-sample sample-submission template",
        "limit limit-train max-images subset",
        "role permission rights",
        "fetch download get pull",
        "twins masks",
        "test-removal removal trial",
        "max-auc-loss max-score max-overkill min-correlation tolerance atol",
    )
)
# Arguments that people take for options, by what stands for them in the help.
_ARGUMENTS = {
    "DATA": "data dataset datasets data-dir data-path dataset-dir data-folder folder dir directory path input inputs "
    "images image image-dir img-dir root train-dir train-data source-dir files d i",
    "RECIPE": "recipe model run checkpoint ckpt weights model-path model-dir recipe-dir inspector r m",
    "RUN": "run recipe model checkpoint run-dir r",
    "IMAGES": "images image data dataset folder dir directory path input inputs source files file img data-dir i d",
    "OUT": "out output output-dir folder dir path save dest o",
    "GENERATED": "generated fake synthetic samples images made",
    "UNIT": "unit id part serial",
    "NAME": "name user username person",
}
_VERBS = {
    "train": "fit learn teach training finetune fine-tune tune build",
    "predict": "score infer inference inspect classify detect run-inference prediction scoring apply",
    "evaluate": "eval test measure metrics requalify requalification golden qualify",
    "explain": "heatmap heatmaps cam gradcam grad-cam saliency interpret localize localise attention maps visualize",
    "serve": "gui ui web app station review server dashboard start launch deploy api annotate label",
    "check": "validate lint verify inspect-data doctor health sanity scan data",
    "export": "quantize quantise convert onnx openvino compile optimize optimise deploy-model save",
    "bench": "benchmark profile speed perf latency time",
    "synthesize": "generate gan stylegan synthesise synth fake sample transplant judge",
    "audit": "outliers outlier suspects clean cleanlab label-issues noise doubts",
    "features": "embed embedding embeddings feature extract vectors",
    "compare": "models sweep grid ablation experiment experiments leaderboard",
    "classical": "svm sklearn forest random-forest lda knn pca conventional",
    "cascade": "distill distil distillation student",
    "tape": "simulate simulator lookalike look-alike demo-data draw",
    "augment": "augmentation augmentations transform oversample",
    "study": "all pipeline auto automl run everything report demo paper",
    "weights": "download fetch pretrained backbones networks list-models",
    "users": "user adduser login token tokens people accounts",
    "replay": "repeat reproduce history trace",
}


def suggestion(error: Any, words: Iterable[str]) -> str:
    """Returns what to try after a usage error.

    Args:
        error: Of the command-line library, with its context.
        words: That were typed, after the program's name.
    """
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "knowngood"
    message = str(getattr(error, "message", error))
    found = None
    if context is not None and getattr(error, "option_name", None) and message.startswith("No such option"):
        found = _for_option(str(error.option_name), context, path)
    elif context is not None and (verb := re.match(r"No such command '(.*?)'", message)):
        found = _for_verb(verb[1], context, path)
    elif "valid number" in message or "valid float" in message:
        found = _for_number(_flag_of(error), list(words))
    elif message.startswith("Got unexpected extra argument") and "--out" in _options(context) and "--out" not in words:
        found = f"{path} {_needed(context)}"
    elif type(error).__name__ == "MissingParameter":
        found = f"{path} {_needed(context)}   ({path} --help says more)"
    return found or f"{path} --help"


def _for_option(typed: str, context: Any, path: str) -> str | None:
    """Returns what to try instead of an option that a verb does not have."""
    name, have = typed.lstrip("-").lower().replace("_", "-"), _options(context)
    if (now := renamed(path.partition(" ")[2], name)) is not None:
        return f"--{name} is called --{now} now."
    arguments = [str(p.metavar or p.name).upper().strip("[]") for p in context.command.params if not _flags(p)]
    if f"--{name}" in have:
        return f"--{name}"
    meant = [flag for line in _OPTIONS if name in line for flag in have if flag.lstrip("-") in line]
    named = [one for one in arguments if name == one.lower()]
    named = named or ([] if meant else [one for one in arguments if name in _ARGUMENTS.get(one, "").split()])
    if named:
        return f"{named[0]} is an argument: {path} {_needed(context)}"
    near = get_close_matches(name, [flag.lstrip("-") for flag in have], 2, _ALIKE)
    found = list(dict.fromkeys([*meant, *(f"--{one}" for one in near)]))[:3]
    if found:
        return f"did you mean {' or '.join(found)}?"
    others = [verb for verb, command in _verbs(context) if f"--{name}" in _flags_of(command)]
    return f"--{name} is an option of {' and '.join(f'knowngood {verb}' for verb in others[:3])}." if others else None


def _for_verb(typed: str, context: Any, path: str) -> str:
    """Returns what to try instead of a verb that is not there."""
    name, here = typed.lower().replace("_", "-"), list(getattr(context.command, "commands", {}))
    everywhere = dict(_verbs(context))
    meant = [verb for verb, words in _VERBS.items() if verb in everywhere and name in words.split()]
    near = get_close_matches(name, here, 2, 0.6)
    found = [f"{path} {one}" if one in here else f"knowngood {one}" for one in meant] or [
        f"{path} {one}" for one in near
    ]
    return f"did you mean {' or '.join(found[:2])}?" if found else f"{path} --help"


def _for_number(flag: str, words: list[str]) -> str | None:
    """Returns a number that was typed with a decimal comma or a sign of percent as it is understood."""
    typed = [after for word, after in pairwise(words) if word == flag]
    typed += [word.partition("=")[2] for word in words if word.startswith(f"{flag}=")]
    found = re.fullmatch(r"\s*(-?\d*[.,]?\d+)\s*(%?)\s*", typed[-1]) if flag and typed else None
    if found is None:
        return None
    number = float(found[1].replace(",", ".")) / (100 if found[2] else 1)
    return f"{flag} {number:g}" + ("   (0.01 means 1 %)" if found[2] else "")


def _needed(context: Any) -> str:
    """Returns a verb's arguments and the options that it cannot do without, as one types them."""
    words = []
    for param in context.command.params:
        if not _flags(param):
            words.append(str(param.metavar or param.name).upper())
        elif param.required:
            words += [param.opts[0], str(param.metavar or param.name).upper()]
    return " ".join(words)


def _flag_of(error: Any) -> str:
    param = getattr(error, "param", None)
    return next(iter(_flags(param)), "") if param is not None else ""


def _flags(param: Any) -> list[str]:
    return [flag for flag in (*param.opts, *param.secondary_opts) if flag.startswith("-")]


def _flags_of(command: Any) -> list[str]:
    return [flag for param in command.params for flag in _flags(param) if flag not in ("--help", "-h")]


def _options(context: Any) -> list[str]:
    return [] if context is None else _flags_of(context.command)


def _verbs(context: Any) -> Iterator[tuple[str, Any]]:
    """Yields every verb with its command, those of a group of verbs as well."""
    for name, command in getattr(context.find_root().command, "commands", {}).items():
        yield name, command
        for inner, one in getattr(command, "commands", {}).items():
            yield f"{name} {inner}", one
