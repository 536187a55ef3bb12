"""The contract of detectors as a public test suite: `check_detector(YourDetector)` in your own tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.errors import KnownGoodError

Rows: TypeAlias = npt.NDArray[np.float32]
Check: TypeAlias = Callable[[type[Any]], None]

_COUNT, _PATCHES, _WIDTH = 120, 6, 12
_CLOSE = 1e-5  # relative to the spread of scores: sums in another order differ by rounding


class ContractError(KnownGoodError):
    """A detector breaks the contract."""


def check_detector(detector: type[Any]) -> None:
    """Checks that a detector keeps the contract of `knowngood.outliers.detectors.Detector`.

    The class need not inherit from `Detector`; it is constructed with its default parameters and with a seed.

    Args:
        detector: The class.

    Raises:
        ContractError: What is broken, what was expected.
    """
    for check in CHECKS.values():
        check(detector)


def sample(detector: type[Any], count: int = _COUNT, seed: int = 0) -> Rows:
    """Returns plain features for a detector, (count, 12) or (count, 6, 12) float32, without outliers."""
    shape = (count, _PATCHES, _WIDTH) if getattr(detector, "takes", "rows") == "patches" else (count, _WIDTH)
    return np.random.default_rng(seed).normal(2, 1, shape).astype(np.float32)


def check_parameters(detector: type[Any]) -> None:
    """The constructor only stores; parameters come back, survive fitting, and unknown ones are refused."""
    made = detector(seed=3)
    params = made.get_params()
    _expect(detector, params.get("seed") == 3, "get_params() does not hold the seed that was given.")
    _expect(detector, not hasattr(made, "threshold_"), "threshold_ is there before fit: the constructor only stores.")
    _expect(detector, detector(**params).get_params() == params, "get_params() does not make the same detector again.")
    made.fit(sample(detector))
    _expect(detector, made.get_params() == params, "fit changes the parameters.")
    with _refused(detector, "a parameter that it does not have"):
        detector(no_such_parameter=1)


def check_shapes(detector: type[Any]) -> None:
    """Scores are float64 (N,), verdicts bool (N,), fit returns itself; one row and float64 will do."""
    rows = sample(detector)
    made = detector(seed=0)
    _expect(detector, made.fit(rows) is made, "fit does not return the detector itself.")
    for some in (rows, rows[:1], rows[:30].astype(np.float64)):
        scores, verdicts = made.score(some), made.predict(some)
        right = isinstance(scores, np.ndarray) and scores.dtype == np.float64 and scores.shape == (len(some),)
        _expect(detector, right, f"score of {some.shape} is not float64 ({len(some)},).")
        _expect(detector, bool(np.isfinite(scores).all()), "A score is not finite.")
        right = isinstance(verdicts, np.ndarray) and verdicts.dtype == np.bool_ and verdicts.shape == (len(some),)
        _expect(detector, right, f"predict of {some.shape} is not bool ({len(some)},).")


def check_fit_score(detector: type[Any]) -> None:
    """fit_score fits and gives a finite score a row."""
    rows = sample(detector)
    made = detector(seed=0)
    scores = made.fit_score(rows)
    right = scores.dtype == np.float64 and scores.shape == (len(rows),) and bool(np.isfinite(scores).all())
    _expect(detector, right, "fit_score is not finite float64 (N,).")
    _same(detector, made.score(rows), detector(seed=0).fit(rows).score(rows), "fit_score fits otherwise than fit.")


def check_determinism(detector: type[Any]) -> None:
    """The same seed and rows give the same scores and threshold, fitted afresh or again."""
    rows, new = sample(detector), sample(detector, 40, seed=1)
    first, second = detector(seed=5).fit(rows), detector(seed=5)
    second.fit(sample(detector, seed=9)).fit(rows)  # nothing of the first fit may remain
    equal = np.array_equal(first.score(new), second.score(new)) and first.threshold_ == second.threshold_
    _expect(detector, bool(equal), "The same seed and rows give other scores.")


def check_threshold(detector: type[Any]) -> None:
    """The threshold is apart: it decides predict, and changing it does not touch the scores."""
    rows = sample(detector)
    made = detector(seed=0).fit(rows)
    scores = made.score(rows)
    threshold = float(made.threshold_)
    _expect(detector, bool(np.isfinite(threshold)), "threshold_ is not finite.")
    _expect(detector, np.array_equal(made.predict(rows), scores > threshold), "predict is not score > threshold_.")
    made.threshold_ = float(np.median(scores))
    _expect(detector, np.array_equal(made.score(rows), scores), "Changing threshold_ changes the scores.")
    _expect(
        detector,
        np.array_equal(made.predict(rows), scores > made.threshold_),
        "predict does not follow a changed threshold_.",
    )


def check_direction(detector: type[Any]) -> None:
    """Higher is more abnormal: a planted far outlier is above 95 % of ordinary rows and is flagged."""
    made = detector(seed=0).fit(sample(detector))
    ordinary, planted = sample(detector, seed=1), sample(detector, 1, seed=2)
    planted[..., :] += 40.0
    score = made.score(planted)[0]
    _expect(
        detector,
        bool(score > np.quantile(made.score(ordinary), 0.95)),
        "A far outlier does not score higher than ordinary rows.",
    )
    _expect(detector, bool(made.predict(planted)[0]), "A far outlier is not flagged at the fitted threshold.")
    _expect(detector, bool(made.predict(ordinary).mean() < 0.5), "Half of the ordinary rows are flagged.")


def check_batches(detector: type[Any]) -> None:
    """A row's score does not depend on the rows that it is scored with."""
    made = detector(seed=0).fit(sample(detector))
    new = sample(detector, 30, seed=1)
    new[3] += 100.0  # a scale taken from the batch would show
    whole = made.score(new)
    alone = np.concatenate([made.score(new[i : i + 1]) for i in range(len(new))])
    _same(detector, alone, whole, "Scores change with the batch that a row is in.")
    _same(detector, made.score(new[::-1])[::-1], whole, "Scores do not follow the order of the rows.")


def check_order(detector: type[Any]) -> None:
    """Where `order_free` promises it, the order of the fitted rows does not matter."""
    if not getattr(detector, "order_free", False):
        return
    rows, new = sample(detector), sample(detector, 30, seed=1)
    mixed = rows[np.random.default_rng(4).permutation(len(rows))]
    one, other = detector(seed=0).fit(rows), detector(seed=0).fit(mixed)
    _same(detector, other.score(new), one.score(new), "The order of the fitted rows changes the scores.")


def check_inputs_stay(detector: type[Any]) -> None:
    """Features are never written to; read-only and non-contiguous ones will do."""
    rows = sample(detector)
    before = rows.copy()
    made = detector(seed=0).fit(rows)
    scores = made.score(rows)
    made.predict(rows)
    _expect(detector, np.array_equal(rows, before), "The features were changed.")
    rows.flags.writeable = False  # as those of a file mapped into memory
    try:
        again = detector(seed=0).fit(rows).score(rows)
    except ValueError as error:
        raise ContractError(f"{detector.__name__} breaks the contract of detectors. It writes to: {error}") from error
    _same(detector, again, scores, "Read-only features score otherwise.")
    strided = np.repeat(before, 2, axis=-1)[..., ::2]
    _same(detector, made.score(strided), scores, "Features that are not contiguous score otherwise.")


def check_wrong_input(detector: type[Any]) -> None:
    """What cannot be right is refused with a KnownGoodError: NaN, wrong dimensions, empty, too few, other length."""
    rows = sample(detector)
    with _refused(detector, "score before fit"):
        detector(seed=0).score(rows)
    broken = rows.copy()
    broken[7, ..., 3] = np.nan
    endless = np.where(np.isnan(broken), np.float32(np.inf), broken)
    wrong: dict[str, Any] = {
        "NaN": broken,
        "infinity": endless,
        "1-D features": rows.reshape(-1),
        "a dimension too many": rows[None],
        "no rows": rows[:0],
        "rows of no length": rows[..., :0],
        "words": np.full(rows.shape, "word"),
    }
    made = detector(seed=0).fit(rows)
    for what, features in wrong.items():
        with _refused(detector, f"fit on {what}"):
            detector(seed=0).fit(features)
        with _refused(detector, f"score of {what}"):
            made.score(features)
    with _refused(detector, "fit on one row"):
        detector(seed=0).fit(rows[:1])
    with _refused(detector, "score of features of another length than fitted"):
        made.score(rows[..., :-1])


CHECKS: dict[str, Check] = {
    "parameters": check_parameters,
    "shapes": check_shapes,
    "fit_score": check_fit_score,
    "determinism": check_determinism,
    "threshold": check_threshold,
    "direction": check_direction,
    "batches": check_batches,
    "order": check_order,
    "inputs_stay": check_inputs_stay,
    "wrong_input": check_wrong_input,
}


def _expect(detector: type[Any], holds: bool, otherwise: str) -> None:
    if not holds:
        raise ContractError(
            f"{detector.__name__} breaks the contract of detectors. {otherwise}",
            fix="See docs/how-to/add-a-detector.md.",
        )


def _same(detector: type[Any], got: Any, wanted: Any, otherwise: str) -> None:
    scale = float(np.ptp(wanted)) + float(np.abs(wanted).max()) + 1e-12
    _expect(detector, bool(np.abs(np.asarray(got) - wanted).max() <= _CLOSE * scale), otherwise)


@contextmanager
def _refused(detector: type[Any], what: str) -> Iterator[None]:
    try:
        yield
    except KnownGoodError:
        return
    except Exception as error:
        message = f"It meets {what} with {type(error).__name__} instead of a KnownGoodError."
        raise ContractError(f"{detector.__name__} breaks the contract of detectors. {message}") from error
    _expect(detector, False, f"It accepts {what} without an error.")
