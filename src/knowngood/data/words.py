"""What names say: good, bad, unlabelled, masks, results, splits; one vocabulary for folders, tables and verdicts.

A name is cut into words ("okFront", "ok_front", "OK 2024" and "i.O. Teile" all hold a word for good), and a negation
turns the word after it ("no defect found" and "not defective" are good, "not ok" is bad). `meaning_of` also says
whether the name says nothing else, so that callers can mark what was only guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["good", "bad", "unlabelled", "masks", "results", "doubtful"]

_GOOD = """
good goods ok okay okey normal pass passed passes passing io gut gute guter gutes gutteil gutteile conform
conforming conformant conforme accept accepted acceptable sound intact healthy flawless faultless undamaged
undefective nondefective defectfree defectless nodefect nodefects faultfree fehlerfrei fehlerlos einwandfrei bon
bonne bueno buena buono buona goed 合格 良品 良 正常
"""
_PERHAPS_GOOD = "clean"  # or cleaned pictures, or cleaned parts that were bad
_BAD = """
bad bads ng nok nio defect defects defective defectives defected def fail failed fails failing failure failures
reject rejected rejects faulty fault faults anomaly anomalies anomalous anomal abnormal abnormality damaged
nonconforming nonconform nonconformity nonconformities unacceptable notok notgood nogood unsound schlecht schlechte
schlechtteil schlechtteile fehler fehlerhaft fehlerteil fehlerteile defekt defekte ausschuss scrap scrapped mauvais
mauvaise defaut malo mala defecto defectos defectuoso difetto difettoso slecht 不良 不良品 不合格 缺陷 异常
"""
_DEFECTS = """
scratch scratches scratched crack cracks cracked dent dents dented stain stains stained contamination contaminated
void voids burr burrs broken bent missing hole holes chipping corrosion particle particles dirt dirty damage damages
flaw flaws flawed misaligned delamination error errors kratzer riss risse
"""
_UNSURE = """
unsure uncertain unclear doubtful dubious questionable maybe undecided borderline ambiguous unklar unsicher fraglich
zweifelhaft
"""
_UNKNOWN = """
unlabelled unlabeled unlabel unannotated untagged unknown unclassified unsorted unassigned undefined unreviewed
unchecked todo tosort tbd mixed ignore ignored unbekannt unsortiert gemischt
"""
_MASKS = "mask masks gt gts groundtruth maske masken bitmask bitmasks"
_PERHAPS_MASKS = "label labels annotation annotations anno annos annot annots seg segs segm segmentation segmentations"
_RESULTS = """
result results output outputs heatmap heatmaps prediction predictions preds predicted overlay overlays gradcam
saliency wandb mlruns checkpoints ergebnis ergebnisse
"""
_PERHAPS_RESULTS = """
map maps run runs log logs report reports pred explain explained explanations cam cams audit vis visualization
visualizations visualisation visualisations debug tmp temp cache recipe recipes strips film lightning
"""
_NEGATIONS = "no not non without nicht kein keine keiner ohne zero sans sin senza pas"
_FREE = "free frei"
_FALSE = "false overkill overkills pseudo"
_LINKS = "a any the visible known apparent obvious real single surface sichtbare sichtbarer"
_FILLERS = """
image images img imgs photo photos photograph photographs picture pictures pic pics part parts unit units sample
samples piece pieces teil teile bild bilder foto fotos data dataset set class type kind category product products
device devices item items found detected all only new old final copy front back rear top bottom left right side view
lot batch line raw resized crop crops cropped binary pixel pixels object train training val valid validation test
testing
"""
_PHRASES = {
    "good": ("in ordnung",),
    "unsure": (
        "not sure", "dont know", "to check", "to review", "needs review", "not clear", "not certain", "can not tell",
    ),
    "unknown": (
        "to do", "to sort", "to label", "to be sorted", "to be labelled", "to be labeled", "not labelled",
        "not labeled", "no label", "no labels", "without label", "without labels", "not sorted", "not classified",
        "not known", "not annotated", "not reviewed",
    ),
    "mask": ("ground truth", "ground truths"),
    "result": ("heat map", "heat maps", "grad cam", "lightning logs"),
}  # fmt: skip

_SPLITS = {
    "train": ("train", "training", "trainset", "trn"),
    "val": ("val", "valid", "validation", "valset", "validate", "dev"),
    "calibration": ("calibration", "calib", "cal"),
    "test": ("test", "testing", "testset", "tst", "holdout"),
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words} | {"hold out": "test"}
_SPLIT_FILLER_WORDS = "set split data dataset images imgs img photos part subset all"
_SPLIT_FILLERS = frozenset(_SPLIT_FILLER_WORDS.split())
_CONTAINER_WORDS = "image images img imgs photo photos picture pictures pic pics data dataset bilder fotos"
_CONTAINERS = frozenset(_CONTAINER_WORDS.split())

_CLASS_OF: dict[str, str] = {}
for _name, _text in (
    ("filler", _FILLERS), ("link", _LINKS), ("good", _GOOD), ("good?", _PERHAPS_GOOD), ("bad", _BAD),
    ("defect", _DEFECTS), ("unsure", _UNSURE), ("unknown", _UNKNOWN), ("mask", _MASKS), ("mask?", _PERHAPS_MASKS),
    ("result", _RESULTS),     ("result?", _PERHAPS_RESULTS), ("not", _NEGATIONS), ("free", _FREE), ("false", _FALSE),
):  # fmt: skip
    _CLASS_OF.update(dict.fromkeys(_text.split(), _name))
for _name, _phrases in _PHRASES.items():
    _CLASS_OF.update(dict.fromkeys(_phrases, _name))
_LONGEST = max(len(phrase.split()) for phrase in _CLASS_OF)

# Letters with full stops between them: "i.O.", "n. i. O.", "O.K.", "N.G."
_INITIALS = re.compile(r"(?<![^\W_])((?:[^\W\d_]\.\s?){1,3}[^\W\d_])(?:\.|(?![^\W_]))")
_RAW = re.compile(r"[^\W_]+")
_HUMPS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[^\W\dA-Z_]+|[A-Z]+|\d+|[^\W_]")
_SHOUTED = re.compile(r"(?<![A-Z])(NOK|NIO|OK|NG|IO|GT)(?=[a-z]{3})")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Meaning:
    """What a name says.

    Attributes:
        kind: "good", "bad", "unlabelled", "masks", "results"; "doubtful" where it contradicts itself or could be
            read two ways; None where no word in it is known.
        sure: Whether the name says nothing else; otherwise `kind` is a guess from a word in it.
        generic: Whether a bad name says no more than that units are bad, and the name of a folder of masks nothing
            that could also be a defect ("labels", "seg").
        why: What in the name says so, for a person: "the word 'ok'".
    """

    kind: Kind | None
    sure: bool = False
    generic: bool = False
    why: str = ""


@dataclass(frozen=True)
class LabelNames:
    """Names that a person gave with --good and --bad: of folders, or of label values in a table.

    Attributes:
        good: As given; compared without case.
        bad: As given.
    """

    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    _used: set[str] = field(default_factory=set, compare=False, repr=False)

    def __bool__(self) -> bool:
        return bool(self.good or self.bad)

    def label_of(self, *names: str) -> Literal["good", "bad"] | None:
        """Returns the label given for any of these names, or None; remembers which of the given names matched."""
        own = {folded(name) for name in names}
        for label, given in (("bad", self.bad), ("good", self.good)):
            for name in given:
                if folded(name) in own:
                    self._used.add(folded(name))
                    return "good" if label == "good" else "bad"
        return None

    def unused(self) -> list[str]:
        """Returns the names that nothing in the set had."""
        return [name for name in (*self.good, *self.bad) if folded(name) not in self._used]


def label_names(good: Iterable[str] | str = (), bad: Iterable[str] | str = ()) -> LabelNames:
    """Returns the names as one value; text may hold several with commas between."""
    return LabelNames(_listed(good), _listed(bad))


def _listed(names: Iterable[str] | str) -> tuple[str, ...]:
    one = [names] if isinstance(names, str) else names
    return tuple(dict.fromkeys(part.strip().strip("/") for text in one for part in text.split(",") if part.strip()))


def folded(name: str) -> str:
    """Returns a name as names are compared: composed, without case and outer spaces."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def words_of(name: str) -> list[str]:
    """Cuts a name into lower-case words: at everything but letters and digits, at digits, and at humps ("okFront")."""
    text = unicodedata.normalize("NFC", name).replace("'", "").replace("’", "")
    text = _INITIALS.sub(lambda found: " " + re.sub(r"[.\s]", "", found.group(1)) + " ", text)
    words: list[str] = []
    for raw in _RAW.findall(text):
        for piece in filter(None, _DIGITS.split(raw)):
            if piece.isdigit() or _plain(piece) in _CLASS_OF or _plain(piece) in _SPLIT_OF:
                words.append(_plain(piece))
                continue
            humps = _HUMPS.findall(_SHOUTED.sub(lambda found: found.group(1) + " ", piece))
            words += [_plain(hump) for hump in humps]
    return words


def meaning_of(name: str) -> Meaning:
    """Returns what the name of a folder, or a label in a table, says.

    Args:
        name: Any text; case, accents and the signs between words do not matter.
    """
    marks = _marks(words_of(name))
    guessed = any(kind == "good?" for kind, _ in marks)
    marks = [("good" if kind == "good?" else kind, word) for kind, word in marks]
    words = {kind: f"the words {word!r}" if " " in word else f"the word {word!r}" for kind, word in reversed(marks)}
    apart = {kind for kind, _ in marks} - {"link", "digits"}
    for rule in (_results, _masks, _unlabelled, _label):
        found = rule(apart, words, name)
        if found is not None:
            return replace(found, sure=False) if guessed and found.kind == "good" else found
    return Meaning(None)


def _results(apart: set[str], words: dict[str, str], _: str) -> Meaning | None:
    if "result" in apart:
        clear = apart <= {"result", "result?", "filler", "bad", "mask", "mask?"}
        return Meaning("results" if clear else "doubtful", apart == {"result"}, why=words["result"])
    if apart and apart <= {"result?", "filler"} and "result?" in apart:
        return Meaning("results", apart == {"result?"}, why=words["result?"])
    if apart == {"result?", "bad"}:  # anomaly maps
        return Meaning("results", why=words["result?"])
    return None


def _masks(apart: set[str], words: dict[str, str], _: str) -> Meaning | None:
    own = {"mask", "mask?"}
    if not apart & own:
        return None
    why = words.get("mask", words.get("mask?", ""))
    clear = apart <= own | {"filler", "bad", "good", "result?"}
    if "mask" not in apart and not apart <= {"mask?", "filler"}:
        return None  # "label missing" is a defect
    return Meaning("masks", clear, clear and "mask" in apart, why=why)


def _unlabelled(apart: set[str], words: dict[str, str], name: str) -> Meaning | None:
    if "unsure" in apart or ("?" in name and apart & {"good", "bad"}):
        return Meaning("unlabelled", apart == {"unsure"}, why=words.get("unsure", "the question mark in its name"))
    if "unknown" not in apart:
        return None
    if "bad" in apart and "good" not in apart:  # an unknown defect is a defect
        return Meaning("bad", generic=apart <= {"unknown", "bad", "filler"}, why=words["bad"])
    return Meaning("unlabelled", apart == {"unknown"}, why=words["unknown"])


def _label(apart: set[str], words: dict[str, str], _: str) -> Meaning | None:
    if "false" in apart and (apart & {"good", "bad"} or apart <= {"false", "filler"}):
        return Meaning("doubtful", why=words["false"])
    if "good" in apart and apart & {"bad", "defect"}:
        other = words["bad"] if "bad" in apart else words["defect"]
        return Meaning("doubtful", why=f"{words['good']} and {other}")
    if "good" in apart:
        return Meaning("good", apart == {"good"}, why=words["good"])
    if "bad" in apart:
        return Meaning("bad", apart == {"bad"}, apart <= {"bad", "filler"}, why=words["bad"])
    return None


def _marks(words: Sequence[str]) -> list[tuple[str, str]]:
    """Returns class and text of each word or phrase, the longest first, with negations applied."""
    marks: list[tuple[str, str]] = []
    at = 0
    while at < len(words):
        for length in range(min(_LONGEST, len(words) - at), 0, -1):
            phrase = " ".join(words[at : at + length])
            if phrase in _CLASS_OF:
                marks.append((_CLASS_OF[phrase], phrase))
                break
        else:
            length, word = 1, words[at]
            after = _CLASS_OF.get(words[at + 1]) if at + 1 < len(words) else None
            initial = "not" if word == "n" and after == "good" else "other"  # n.ok
            marks.append(("digits" if word.isdigit() else initial, word))
        at += length
    return _negated(marks)


def _negated(marks: list[tuple[str, str]]) -> list[tuple[str, str]]:
    turned = {"good": "bad", "good?": "bad", "bad": "good", "defect": "good"}
    result: list[tuple[str, str]] = []
    at = 0
    while at < len(marks):
        kind, word = marks[at]
        step = 1
        if kind == "not":
            there = at + 1
            while there < len(marks) and marks[there][0] == "link":
                there += 1
            target = marks[there][0] if there < len(marks) else "other"
            if target in turned and not (word == "no" and marks[at + 1][0] == "digits"):
                kind, word = turned[target], f"{word} {marks[there][1]}"
                step = there + 1 - at
            else:
                kind = "other"
        elif kind in ("bad", "defect") and at + 1 < len(marks) and marks[at + 1][0] == "free":
            kind, word, step = "good", f"{word} {marks[at + 1][1]}", 2
        elif kind == "free":
            kind = "other"
        result.append((kind, word))
        at += step
    return result


def split_of(name: str) -> str | None:
    """Returns the split that a folder or a cell of a table names in any case ("Train", "test_set"), or None."""
    words = words_of(name)
    named = _SPLIT_OF.get(" ".join(words))
    if named is not None:
        return named
    found = {_SPLIT_OF[word] for word in words if word in _SPLIT_OF}
    others = [word for word in words if word not in _SPLIT_OF and word not in _SPLIT_FILLERS]
    return found.pop() if len(found) == 1 and not others else None


def is_container(name: str) -> bool:
    """Returns whether a folder of that name ("images", "data") says nothing of what is in it."""
    words = words_of(name)
    return bool(words) and all(word in _CONTAINERS for word in words)


def is_good_name(name: str) -> bool:
    """Returns whether a name says that units are good."""
    return meaning_of(name).kind == "good"


def is_mask_name(name: str) -> bool:
    """Returns whether a folder of that name holds masks."""
    return meaning_of(name).kind == "masks"


def defect_of(name: str) -> str:
    """Returns the defect type that the name of bad units stands for; "bad" when it only says that they are bad."""
    found = meaning_of(name)
    return "bad" if found.kind == "bad" and found.generic else name


def _plain(word: str) -> str:
    """Returns a word without case and accents ("Défaut" is "defaut")."""
    spread = unicodedata.normalize("NFKD", word.casefold())
    return unicodedata.normalize("NFC", "".join(c for c in spread if not unicodedata.combining(c)))
