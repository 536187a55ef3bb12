"""What names say: one vocabulary for folders, tables and verdicts."""

from __future__ import annotations

import pytest

from knowngood.data.words import defect_of, label_names, meaning_of, split_of, words_of

GOOD = """good|OK|okay|Normal|PASS|passed|io|iO|i.O.|i. O.|O.K.|gut|Gutteile|conform|Conforming|accept|
accepted|no defect|No Defect|no_defects|no defect found|no visible defects|nodefect|defect free|
defect-free|without defect|ohne Fehler|keine Fehler|fehlerfrei|non-defective|not defective|
not damaged|no scratch|crack free|sound|clean|ok_front|okFront|OKparts|good-2024|good_0|OK 2|
good parts|正常"""
BAD = """bad|ng|N.G.|NG_01|nok|nio|niO|n.i.O.|NIO Teile|defect|Defects|defective|def|def_front|defFront|
NGparts|fail|Failed|reject|faulty|anomaly|anomalous|abnormal|damaged|not ok|NOT-OK|NotOK|not_good|
nicht ok|no good|non conforming|nonconforming|n.ok|not accepted|schlecht|Ausschuss|Défaut|
unknown defect|mixed defects|不良"""
UNLABELLED = """unlabelled|unlabeled|Unlabeled_2024|unknown|not sure|not_sure|unsure|unclear|todo|to do|to sort|
unsorted|mixed|ignore|maybe bad|ok?|not labelled|no label"""
MASKS = (
    "mask|Masks|gt|GT|ground truth|Ground-Truth|ground_truth|annotations|seg|segmentation|labels|defect_masks|gt_images"
)
RESULTS = """results|Output|heatmaps|heat maps|maps|predictions|overlays|anomaly_maps|run1|runs|predicted_masks|
gradcam"""
DOUBTFUL = """ok_ng|pass_fail|scratch_ok|false reject|overkill|output_pin_bent"""
OTHERS = """scratch|Bruch Ä|no lead|no_marking|label_missing|ink_run|No 3|0|1|broken_large|passivation|
abnormally|okra|goodness|perhaps|test|images"""


def names(text: str) -> list[str]:
    return [name.strip("\n") for name in text.split("|")]


KINDS = {
    "good": GOOD,
    "bad": BAD,
    "unlabelled": UNLABELLED,
    "masks": MASKS,
    "results": RESULTS,
    "doubtful": DOUBTFUL,
    None: OTHERS,
}
CASES = [(name, kind) for kind, text in KINDS.items() for name in names(text)]


@pytest.mark.parametrize(("name", "kind"), CASES, ids=[name for name, _ in CASES])
def test_meaning(name: str, kind: str | None) -> None:
    assert meaning_of(name).kind == kind


def test_what_is_sure_and_what_is_guessed() -> None:
    assert [meaning_of(name).sure for name in ("OK", "good_0", "not defective", "n.i.O.")] == [True] * 4
    assert [meaning_of(name).sure for name in ("ok_front", "NIO Teile", "no defect found")] == [False] * 3
    assert [meaning_of(name).sure for name in ("clean", "clean parts")] == [False] * 2  # or cleaned pictures
    assert meaning_of("not clean").kind == "bad"
    assert meaning_of("ok_front").why == "the word 'ok'"
    assert meaning_of("not ok").why == "the words 'not ok'"


def test_words_are_cut_at_signs_digits_and_humps() -> None:
    assert words_of("okFront_2024-NGTeile") == ["ok", "front", "2024", "ng", "teile"]
    assert words_of("n.i.O. Teile") == ["nio", "teile"]


def test_a_defect_keeps_its_name_unless_it_only_says_bad() -> None:
    assert [defect_of(name) for name in ("NG", "def_front", "NIO Teile", "damaged")] == ["bad"] * 4
    assert [defect_of(name) for name in ("scratch", "NG solder void", "Bruch Ä")] == [
        "scratch",
        "NG solder void",
        "Bruch Ä",
    ]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Train", "train"), ("TRAINING", "train"), ("train_images", "train"), ("trainSet", "train"), ("Val", "val"),
        ("Validation", "val"), ("valid", "val"), ("dev", "val"), ("Test", "test"), ("test set", "test"),
        ("hold-out", "test"), ("Calib", "calibration"), ("later", None), ("eval", None), ("good", None),
        ("train_test", None), ("latest", None),
    ],
)  # fmt: skip
def test_splits_in_any_case(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_names_given_by_a_person() -> None:
    given = label_names(["MT_Free, front"], "crack")
    assert given.good == ("MT_Free", "front")
    assert given.label_of("mt_free") == "good"
    assert given.label_of("Crack") == "bad"
    assert given.label_of("other") is None
    assert given.unused() == ["front"]
    assert not label_names()
