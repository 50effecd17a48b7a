"""The hierarchical multi-task network, compiled from a task tree and trained on soft labels."""

from metal_jax._core.training import TrainingConfig
from metal_jax.network._build import (
    Network,
    build,
    leaf_log_probs,
    node_log_probs,
)
from metal_jax.network._config import NetworkConfig, TaskConfig
from metal_jax.network._draw import draw
from metal_jax.network._encoders import (
    BagOfFeatures,
    Encoder,
    Vocabulary,
    embedding_bag,
    fit_vocabulary,
    from_module,
    hashed_ngrams,
    select_features,
)
from metal_jax.network._fit import Examples, FitConfig, FitResult, fit, soft_label_loss
from metal_jax.network._task_params import task_params, transfer_params, with_task_params

__all__ = [
    "BagOfFeatures",
    "Encoder",
    "Examples",
    "FitConfig",
    "FitResult",
    "Network",
    "NetworkConfig",
    "TaskConfig",
    "TrainingConfig",
    "Vocabulary",
    "build",
    "draw",
    "embedding_bag",
    "fit",
    "fit_vocabulary",
    "from_module",
    "hashed_ngrams",
    "leaf_log_probs",
    "node_log_probs",
    "select_features",
    "soft_label_loss",
    "task_params",
    "transfer_params",
    "with_task_params",
]
