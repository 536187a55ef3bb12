"""knowngood: photographs of parts in, proven-good parts out.

The names below are the public interface; each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from knowngood.telemetry import refuse

if TYPE_CHECKING:
    from knowngood.data.augment import Augmented, augment
    from knowngood.data.health import Health, check
    from knowngood.data.loading import load
    from knowngood.data.records import Records
    from knowngood.data.splits import split
    from knowngood.errors import KnownGoodError
    from knowngood.experiments.audit import Audit, audit
    from knowngood.experiments.classical import Classical, classical
    from knowngood.experiments.compare import Compared, compare
    from knowngood.experiments.configs import CompareConfig, JudgeConfig, RemovalConfig, StudyConfig
    from knowngood.experiments.recipe_comparison import ComparedRecipes, compare_recipes
    from knowngood.experiments.removal import RemovalTrial, removal_trial
    from knowngood.experiments.study import Studied, study
    from knowngood.experiments.synthesis import Judged, judge
    from knowngood.metrics.figures import Metrics, compute_metrics
    from knowngood.metrics.thresholds import Threshold, choose_threshold
    from knowngood.models.features import Features, features
    from knowngood.models.features_on_cluster import FeatureRun, features_on_cluster
    from knowngood.recipe.bundle import Prediction, Recipe
    from knowngood.recipe.cluster import ClusterRun, predict_on_cluster
    from knowngood.recipe.evaluating import Evaluation
    from knowngood.recipe.exporting import Exported, export
    from knowngood.recipe.options import EngineConfig
    from knowngood.recipe.predicting import predict
    from knowngood.scale.config import ClusterConfig
    from knowngood.synthesis.writing import GeneratedSet
    from knowngood.training.config import TrainConfig
    from knowngood.workflows.cascade import Cascaded, cascade
    from knowngood.workflows.configs import CascadeConfig, ExplainConfig, GeneratorConfig, TransplantConfig
    from knowngood.workflows.evaluate import evaluate
    from knowngood.workflows.explain import Explained, explain
    from knowngood.workflows.generate import TrainedGan, sample, train_generator, transplant
    from knowngood.workflows.train import Trained, train

refuse()  # before anything that would report is imported

try:
    __version__ = version("knowngood")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

_HOMES = {
    "Audit": "knowngood.experiments.audit",
    "Augmented": "knowngood.data.augment",
    "CascadeConfig": "knowngood.workflows.configs",
    "Cascaded": "knowngood.workflows.cascade",
    "Classical": "knowngood.experiments.classical",
    "ClusterConfig": "knowngood.scale.config",
    "ClusterRun": "knowngood.recipe.cluster",
    "CompareConfig": "knowngood.experiments.configs",
    "ComparedRecipes": "knowngood.experiments.recipe_comparison",
    "Compared": "knowngood.experiments.compare",
    "EngineConfig": "knowngood.recipe.options",
    "Evaluation": "knowngood.recipe.evaluating",
    "ExplainConfig": "knowngood.workflows.configs",
    "Explained": "knowngood.workflows.explain",
    "Exported": "knowngood.recipe.exporting",
    "FeatureRun": "knowngood.models.features_on_cluster",
    "Features": "knowngood.models.features",
    "GeneratedSet": "knowngood.synthesis.writing",
    "GeneratorConfig": "knowngood.workflows.configs",
    "Health": "knowngood.data.health",
    "JudgeConfig": "knowngood.experiments.configs",
    "Judged": "knowngood.experiments.synthesis",
    "KnownGoodError": "knowngood.errors",
    "Metrics": "knowngood.metrics.figures",
    "Prediction": "knowngood.recipe.bundle",
    "Recipe": "knowngood.recipe.bundle",
    "Records": "knowngood.data.records",
    "RemovalConfig": "knowngood.experiments.configs",
    "RemovalTrial": "knowngood.experiments.removal",
    "Studied": "knowngood.experiments.study",
    "StudyConfig": "knowngood.experiments.configs",
    "Threshold": "knowngood.metrics.thresholds",
    "TrainConfig": "knowngood.training.config",
    "Trained": "knowngood.workflows.train",
    "TrainedGan": "knowngood.workflows.generate",
    "TransplantConfig": "knowngood.workflows.configs",
    "audit": "knowngood.experiments.audit",
    "augment": "knowngood.data.augment",
    "cascade": "knowngood.workflows.cascade",
    "check": "knowngood.data.health",
    "choose_threshold": "knowngood.metrics.thresholds",
    "classical": "knowngood.experiments.classical",
    "compare": "knowngood.experiments.compare",
    "compare_recipes": "knowngood.experiments.recipe_comparison",
    "compute_metrics": "knowngood.metrics.figures",
    "evaluate": "knowngood.workflows.evaluate",
    "explain": "knowngood.workflows.explain",
    "export": "knowngood.recipe.exporting",
    "features": "knowngood.models.features",
    "features_on_cluster": "knowngood.models.features_on_cluster",
    "judge": "knowngood.experiments.synthesis",
    "load": "knowngood.data.loading",
    "predict": "knowngood.recipe.predicting",
    "predict_on_cluster": "knowngood.recipe.cluster",
    "removal_trial": "knowngood.experiments.removal",
    "sample": "knowngood.workflows.generate",
    "split": "knowngood.data.splits",
    "study": "knowngood.experiments.study",
    "train": "knowngood.workflows.train",
    "train_generator": "knowngood.workflows.generate",
    "transplant": "knowngood.workflows.generate",
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
    "Evaluation",
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
    "compute_metrics",
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
