"""The training set with transplants: defects of its bad images blended into its good ones, made anew for every seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from knowngood.data.records import BAD
from knowngood.files import cache_folder
from knowngood.study.comparison.variants import TrainingSet, VariantOptions
from knowngood.study.comparison.variants.generated import with_generated
from knowngood.synthesis.makers import open_maker
from knowngood.synthesis.writing import write_set


class Transplant:
    """Adds as many transplants as the training split has bad images."""

    summary = "with as many transplants added as there are bad training images: their defects, in good ones"

    def check(self, options: VariantOptions) -> None:
        """Needs nothing; whether a mask or box says where defects are is known once the images are read."""

    def apply(self, given: TrainingSet, options: VariantOptions) -> TrainingSet:
        """Returns the set with them; they are kept in the cache.

        Raises:
            DataError: No bad training image says where its defect is.
        """
        maker = open_maker("transplant", given.records, options.seed)
        count = int((maker.taught["label"] == BAD).sum())
        key = json.dumps([maker.identity, options.seed, count], sort_keys=True)
        place = cache_folder("transplants") / hashlib.sha256(key.encode()).hexdigest()[:16]
        made = write_set("transplant", maker, place, count, options.seed)
        both, said = with_generated(given.records, made.folder, called="generated/transplant")
        return replace(given, records=both, changes=(*given.changes, f"transplants: {said}"))
