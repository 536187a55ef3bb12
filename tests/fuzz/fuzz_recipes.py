"""Hostile recipes: documents with forged fields under a new seal, texts that are no document, tensors of other shapes.

A recipe may be loaded or refused with a `RecipeError`. An input has failed when anything else is raised, or when

- a document whose seal does not fit is taken, though it says something else than what was saved;
- a forged field that decides is taken and the hash of what decides stays the same;
- a forged field is taken under a signature of the recipe as it was;
- a decision of a loaded recipe does not follow from its score and its thresholds, or a message is longer than a page.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz_tables import BYTES, DEEP, WrongError, _place_in

LIARS: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 17, 99, 1e-320, -1e308, 1e308, 0.5, 1.5, 0.999999, 2**31, 2**63, 10**4000, "",
    "x" * 100_000, "x" * 300, "1", "nan", "\ud800", "../../etc/passwd", "line\nbreak", "\u0000", [], {}, [None], [[]],
    [99], {"a": {"b": []}}, [0] * 5000, ["x"], {"": 1}, [[0.9, 0.9, 0.1, 0.1]], [1e-320] * 3, {"threshold": 2},
    "linear", "kernel", "patch_memory", "resnet18", "one-class", "classifier", "0" * 64, [1, 2, 3], [0.5, 0.5, 0.5],
)  # fmt: skip
TEXTS = (
    '{"format": NaN}', '{"format": Infinity}', '{"format": -Infinity}', '{"format": 1e999}', '{"a": ' * 100_000, DEEP,
    '{"a": ' * 200 + "1" + "}" * 200, '{"format": ' + "9" * 5000 + "}", '{"format": 3, "format": 2}', "\ufeff{}", "",
    '{"name": "\\ud800"}', "\x00\x01", '{"a": "' + "x" * 5_000_000 + '"}', "null", "[]", '"x"', "{}", "1e999", "-0",
    "{" + ",".join(f'"{n}":{n}' for n in range(250_000)) + "}",
)  # fmt: skip
DECIDES = ("networks", "preprocessing", "calibration", "threshold", "classes", "kind", "weights_sha256", "input_check")
NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "9" * 5000, "00", "+1", "0x1", "1_0")
WHOLE = 0.05  # share of what is taken whose networks are built and asked, which takes a hundred times as long


class Recipes:
    """A trained recipe that is forged in every way, and what reads it.

    Args:
        folder: Empty.
        seed: Of the inputs.
        run: Folder of a finished run of train, or of a recipe.
        photograph: A file that the recipe can score.
    """

    def __init__(self, folder: Path, seed: int, run: Path, photograph: Path) -> None:
        from knowngood.recipe.folder import place_of
        from knowngood.recipe.manifest import decision_digest
        from knowngood.recipe.signing import new_key, sign

        self.seed = seed
        self.place = Path(shutil.copytree(place_of(run), folder / "recipe"))
        shutil.rmtree(self.place / "exports", ignore_errors=True)
        self.public, _ = new_key(folder / "key")
        sign(self.place, folder / "key")
        self.sound = (self.place / "recipe.json").read_bytes()
        self.document: dict[str, Any] = json.loads(self.sound)
        del self.document["seal"]
        self.digest = decision_digest(self.place)
        self.photograph = photograph.read_bytes()
        self.parts = folder / "parts"
        self.parts.mkdir()
        (self.parts / "model.onnx").write_bytes(b"graph")

    def attack(self, number: int) -> tuple[str, str]:
        """Tries one input; see `Tables.attack`."""
        dice = random.Random(f"{self.seed}:{number}")
        way = dice.choice(list(_WAYS))
        try:
            return way, _WAYS[way](self, dice)
        finally:
            (self.place / "recipe.json").write_bytes(self.sound)

    def forged(self, dice: random.Random) -> str:
        """Tries fields with other values under a seal that fits."""
        made = copy.deepcopy(self.document)
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            at = made[dice.choice(DECIDES)] if dice.random() < 0.6 else made
            place, key = _place_in(at, dice) if isinstance(at, (dict, list)) else (None, None)
            if place is not None:
                _forge(place, key, dice)
        try:
            self._put(made)
        except (ValueError, OverflowError):
            return self._text(json.dumps(made | {"seal": "0" * 64}).encode(), dice)  # it has no seal at all
        return self._taken(made, dice)

    def _taken(self, made: dict[str, Any], dice: random.Random) -> str:
        from knowngood.errors import RecipeError
        from knowngood.recipe.bundle import Recipe, _read_manifest
        from knowngood.recipe.manifest import decision_digest
        from knowngood.recipe.signing import verify

        changed = [name for name in DECIDES if made.get(name) != self.document.get(name)]
        try:
            manifest = _read_manifest(self.place)
        except RecipeError as error:
            if len(str(error)) > 2000:
                raise WrongError(f"a message of {len(str(error)):,} letters") from error
            return "refused"
        if changed and decision_digest(self.place) == self.digest:
            raise WrongError(f"{changed} are others, and the hash of what decides is the same")
        if changed:
            try:
                verify(self.place, self.public)
            except RecipeError:
                pass
            else:
                raise WrongError(f"{changed} are others, and the signature holds")
        low, high = manifest.threshold["threshold"], manifest.threshold["reject_from"]
        if not 0 <= low <= high <= 1 + 1e-9:
            raise WrongError(f"thresholds {low} and {high}")
        if dice.random() < WHOLE:
            try:
                recipe = Recipe.load(self.place)
            except RecipeError:
                return "refused"
            (said,) = recipe.predict(self.photograph)
            if said.decision != "error" and said.reason is None:
                expected = "accept" if said.defect_score < low else "reject" if said.defect_score >= high else "review"
                if said.decision != expected:
                    raise WrongError(f"{said} with thresholds {low} and {high}")
        return "accepted"

    def _put(self, document: dict[str, Any]) -> None:
        from knowngood.recipe.manifest import seal

        (self.place / "recipe.json").write_text(json.dumps(document | {"seal": seal(document)}))

    def _text(self, data: bytes, dice: random.Random) -> str:
        from knowngood.errors import RecipeError
        from knowngood.recipe.bundle import _read_manifest

        (self.place / "recipe.json").write_bytes(data)
        try:
            manifest = _read_manifest(self.place)
        except RecipeError as error:
            if len(str(error)) > 2000:
                raise WrongError(f"a message of {len(str(error)):,} letters") from error
            return "refused"
        if manifest.document() != self.document:
            raise WrongError("a document whose seal does not fit was taken")
        return "accepted"

    def texts(self, dice: random.Random) -> str:
        """Tries texts that are no document, or documents of which bytes were changed."""
        kind = dice.randrange(4)
        if kind == 0:
            return self._text(dice.choice(TEXTS).encode("utf-8", "replace"), dice)
        if kind == 1:  # a number that is none of JSON
            words = self.sound.split(b": ")
            place = dice.randrange(1, len(words))
            words[place] = dice.choice(NUMBERS).encode() + b"," + words[place].partition(b",")[2]
            return self._text(b": ".join(words), dice)
        return self._text(BYTES[dice.choice(list(BYTES))](self.sound, dice, [self.sound]), dice)

    def documents(self, dice: random.Random) -> str:
        """Tries documents of exports and cascades with forged fields, their seals made anew."""
        from knowngood.errors import RecipeError
        from knowngood.recipe.cascade import CascadeDocument
        from knowngood.recipe.exporting import ExportDocument
        from knowngood.recipe.manifest import seal

        name = dice.choice(("export.json", "cascade.json"))
        made = copy.deepcopy(EXPORT if name == "export.json" else CASCADE)
        for _ in range(dice.choice((1, 1, 2))):
            place, key = _place_in(made, dice)
            _forge(place, key, dice)
        try:
            text = json.dumps(made | {"seal": seal(made)})
        except ValueError:
            text = json.dumps(made)
        if dice.random() < 0.2:
            text = dice.choice(TEXTS)
        (self.parts / name).write_bytes(text.encode("utf-8", "replace"))
        try:
            found: ExportDocument | CascadeDocument
            if name == "export.json":
                found = ExportDocument.load(self.parts, "abc")
            else:
                found = CascadeDocument.load(self.parts)
        except RecipeError as error:
            if len(str(error)) > 5000:
                raise WrongError(f"a message of {len(str(error)):,} letters") from error
            return "refused"
        if not 0 <= found.thresholds.accept_below <= found.thresholds.reject_from <= 1 + 1e-9:
            raise WrongError(f"thresholds {found.thresholds}")
        return "accepted"

    def signatures(self, dice: random.Random) -> str:
        """Tries changed signatures."""
        from knowngood.errors import RecipeError
        from knowngood.recipe.signing import verify

        file = self.place / "signature.json"
        sound = file.read_bytes()
        try:
            if dice.random() < 0.5:
                made = json.loads(sound)
                place, key = _place_in(made, dice)
                _forge(place, key, dice)
                file.write_text(json.dumps(made))
            else:
                file.write_bytes(BYTES[dice.choice(list(BYTES))](sound, dice, [sound]))
            found = verify(self.place, self.public)
        except RecipeError:
            return "refused"
        finally:
            file.write_bytes(sound)
        if found.model_dump() != json.loads(sound)["signatures"][0]:
            raise WrongError("a changed signature holds")
        return "accepted"

    def tensors(self, dice: random.Random) -> str:
        """Tries headers and bytes of tensors that are not those that were saved, under a hash that fits."""
        from knowngood.errors import RecipeError
        from knowngood.recipe.bundle import Recipe

        whole = (self.place / "weights.safetensors").read_bytes()
        header = 8 + int.from_bytes(whole[:8], "little")
        head = BYTES[dice.choice(list(BYTES))](whole[:header], dice, [whole[:header]])
        if dice.random() < 0.5:
            size = len(head) - 8 if len(head) > 8 else 0
            head = size.to_bytes(8, "little") + head[8:]
        forged = head + whole[header:]
        (self.place / "weights.safetensors").write_bytes(forged)
        try:
            self._put(self.document | {"weights_sha256": hashlib.sha256(forged).hexdigest()})
            (said,) = Recipe.load(self.place).predict(self.photograph)
        except RecipeError:
            return "refused"
        finally:
            (self.place / "weights.safetensors").write_bytes(whole)
        if said.decision not in ("accept", "review", "reject", "error"):
            raise WrongError(str(said))
        return "accepted"

    def rarely_tensors(self, dice: random.Random) -> str:
        """Tries tensors once in forty times, which take forty times as long as documents, and fields otherwise."""
        return self.tensors(dice) if dice.random() < 0.025 else self.forged(dice)


_WAYS: dict[str, Callable[[Recipes, random.Random], str]] = {
    "forged fields": Recipes.forged,
    "texts": Recipes.texts,
    "exports and cascades": Recipes.documents,
    "signatures": Recipes.signatures,
    "fields and tensors": Recipes.rarely_tensors,
}
EXPORT: dict[str, Any] = {
    "format": 1, "recipe": "abc", "exporter": "onnx", "precision": "int8", "created": "now", "shape": [1, 64, 64],
    "map_kind": None, "folded": True, "wide": [], "threshold": {"threshold": 0.5, "reject_from": 0.5},
    "tolerance": {"max_score": 0.05, "max_auc_loss": 0.001, "min_correlation": 0.99, "max_overkill": 0.01,
                  "min_likeness": 0.9},
    "parity": {}, "sample": 3, "versions": {}, "files": {"model.onnx": hashlib.sha256(b"graph").hexdigest()},
}  # fmt: skip
CASCADE: dict[str, Any] = {
    "format": 1, "created": "now", "certainty": 0.5, "low": 0.1, "high": 2.0, "figures": {},
    "threshold": {"threshold": 0.5, "reject_from": 0.5},
    "large": {"revision": "abc", "runtime": "torch", "precision": "fp32"},
    "student": {"revision": "def", "runtime": "torch", "precision": "fp32"},
}  # fmt: skip


def _forge(place: Any, key: Any, dice: random.Random) -> None:
    """Gives one field another value, removes it, or puts one beside it."""
    way = dice.random()
    value = place[key]
    if way < 0.05:
        del place[key]
    elif way < 0.1 and isinstance(place, dict):
        place["unexpected"] = copy.deepcopy(dice.choice(LIARS))
    elif way < 0.4 and isinstance(value, (int, float)) and not isinstance(value, bool):
        scale = dice.choice((-1, 0.999, 1.001, 2, 10, 1e6, 1e300, 1e-300))
        place[key] = type(value)(max(min(value * scale, 1e18), -1e18)) if isinstance(value, int) else value * scale
    else:
        place[key] = copy.deepcopy(dice.choice(LIARS))
