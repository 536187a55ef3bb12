"""knowngood: photographs of parts in, proven-good parts out.

The names below are the public interface; each is imported when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from knowngood.telemetry import refuse

if TYPE_CHECKING:
    from knowngood.data.health import Health, check
    from knowngood.data.loading import load
    from knowngood.data.offline.augment import Augmented, augment
    from knowngood.data.records import Records
    from knowngood.data.splits import split
    from knowngood.decide.metrics import Metrics, evaluate
    from knowngood.decide.threshold import Threshold, choose_threshold
    from knowngood.errors import KnownGoodError
    from knowngood.models.cluster.running import FeatureRun, features_on_cluster
    from knowngood.models.features import Features, features
    from knowngood.models.training.config import TrainConfig
    from knowngood.recipe.bundle import Prediction, Recipe
    from knowngood.recipe.cluster.config import EngineConfig
    from knowngood.recipe.cluster.running import ClusterRun, predict_on_cluster
    from knowngood.recipe.export.exporting import Exported, export
    from knowngood.recipe.predicting import predict
    from knowngood.scale.config import ClusterConfig
    from knowngood.study.auditing import Audit, audit
    from knowngood.study.cascade_config import CascadeConfig
    from knowngood.study.cascading import Cascaded, cascade
    from knowngood.study.classical import Classical, classical
    from knowngood.study.comparison.comparing import Compared, compare
    from knowngood.study.comparison.config import CompareConfig
    from knowngood.study.explain_config import ExplainConfig
    from knowngood.study.explaining import Explained, explain
    from knowngood.study.generating import sample, transplant
    from knowngood.study.generating_config import GeneratorConfig, TransplantConfig
    from knowngood.study.generator import TrainedGan, train_generator
    from knowngood.study.judging.config import JudgeConfig
    from knowngood.study.judging.judging import Judged, judge
    from knowngood.study.recipe_comparison import ComparedRecipes, compare_recipes
    from knowngood.study.removal_config import RemovalConfig
    from knowngood.study.removing import RemovalTrial, removal_trial
    from knowngood.study.study_config import StudyConfig
    from knowngood.study.studying import Studied, study
    from knowngood.study.training import Trained, train
    from knowngood.synthesis.writing import GeneratedSet

refuse()  # before anything that would report is imported

try:
    __version__ = version("knowngood")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

_HOMES = {
    "Audit": "knowngood.study.auditing",
    "Augmented": "knowngood.data.offline.augment",
    "CascadeConfig": "knowngood.study.cascade_config",
    "Cascaded": "knowngood.study.cascading",
    "Classical": "knowngood.study.classical",
    "ClusterConfig": "knowngood.scale.config",
    "ClusterRun": "knowngood.recipe.cluster.running",
    "CompareConfig": "knowngood.study.comparison.config",
    "ComparedRecipes": "knowngood.study.recipe_comparison",
    "Compared": "knowngood.study.comparison.comparing",
    "EngineConfig": "knowngood.recipe.cluster.config",
    "ExplainConfig": "knowngood.study.explain_config",
    "Explained": "knowngood.study.explaining",
    "Exported": "knowngood.recipe.export.exporting",
    "FeatureRun": "knowngood.models.cluster.running",
    "Features": "knowngood.models.features",
    "GeneratedSet": "knowngood.synthesis.writing",
    "GeneratorConfig": "knowngood.study.generating_config",
    "Health": "knowngood.data.health",
    "JudgeConfig": "knowngood.study.judging.config",
    "Judged": "knowngood.study.judging.judging",
    "KnownGoodError": "knowngood.errors",
    "Metrics": "knowngood.decide.metrics",
    "Prediction": "knowngood.recipe.bundle",
    "Recipe": "knowngood.recipe.bundle",
    "Records": "knowngood.data.records",
    "RemovalConfig": "knowngood.study.removal_config",
    "RemovalTrial": "knowngood.study.removing",
    "Studied": "knowngood.study.studying",
    "StudyConfig": "knowngood.study.study_config",
    "Threshold": "knowngood.decide.threshold",
    "TrainConfig": "knowngood.models.training.config",
    "Trained": "knowngood.study.training",
    "TrainedGan": "knowngood.study.generator",
    "TransplantConfig": "knowngood.study.generating_config",
    "audit": "knowngood.study.auditing",
    "augment": "knowngood.data.offline.augment",
    "cascade": "knowngood.study.cascading",
    "check": "knowngood.data.health",
    "choose_threshold": "knowngood.decide.threshold",
    "classical": "knowngood.study.classical",
    "compare": "knowngood.study.comparison.comparing",
    "compare_recipes": "knowngood.study.recipe_comparison",
    "evaluate": "knowngood.decide.metrics",
    "explain": "knowngood.study.explaining",
    "export": "knowngood.recipe.export.exporting",
    "features": "knowngood.models.features",
    "features_on_cluster": "knowngood.models.cluster.running",
    "judge": "knowngood.study.judging.judging",
    "load": "knowngood.data.loading",
    "predict": "knowngood.recipe.predicting",
    "predict_on_cluster": "knowngood.recipe.cluster.running",
    "removal_trial": "knowngood.study.removing",
    "sample": "knowngood.study.generating",
    "split": "knowngood.data.splits",
    "study": "knowngood.study.studying",
    "train": "knowngood.study.training",
    "train_generator": "knowngood.study.generator",
    "transplant": "knowngood.study.generating",
}

__all__ = [
    "Audit",
    "Augmented",
    "CascadeConfig",
    "Cascaded",
    "Classical",
    "ClusterConfig",
    "ClusterRun",
    "CompareConfig",
    "Compared",
    "ComparedRecipes",
    "EngineConfig",
    "ExplainConfig",
    "Explained",
    "Exported",
    "FeatureRun",
    "Features",
    "GeneratedSet",
    "GeneratorConfig",
    "Health",
    "JudgeConfig",
    "Judged",
    "KnownGoodError",
    "Metrics",
    "Prediction",
    "Recipe",
    "Records",
    "RemovalConfig",
    "RemovalTrial",
    "Studied",
    "StudyConfig",
    "Threshold",
    "TrainConfig",
    "Trained",
    "TrainedGan",
    "TransplantConfig",
    "audit",
    "augment",
    "cascade",
    "check",
    "choose_threshold",
    "classical",
    "compare",
    "compare_recipes",
    "evaluate",
    "explain",
    "export",
    "features",
    "features_on_cluster",
    "judge",
    "load",
    "predict",
    "predict_on_cluster",
    "removal_trial",
    "sample",
    "split",
    "study",
    "train",
    "train_generator",
    "transplant",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'knowngood' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Interface(ModuleType):
    """Keeps `knowngood.study` and `knowngood.explain` the functions: importing the folders of these names, which
    Python would put in their place, only makes them known to `from knowngood.study import ...`.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Interface
