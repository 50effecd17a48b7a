"""The hierarchical multi-task network, compiled from a task tree and trained on soft labels."""

from metal_jax._core.optimiser import OptimiserConfig
from metal_jax._core.training_config import TrainingConfig
from metal_jax._core.training_logs import LogConfig
from metal_jax.checkpoint import CheckpointConfig
from metal_jax.network._build import (
    Network,
    NetworkConfig,
    build,
    leaf_log_probs,
    node_log_probs,
)
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

__all__ = [
    "BagOfFeatures",
    "CheckpointConfig",
    "Encoder",
    "Examples",
    "FitConfig",
    "FitResult",
    "LogConfig",
    "Network",
    "NetworkConfig",
    "OptimiserConfig",
    "TrainingConfig",
    "Vocabulary",
    "build",
    "embedding_bag",
    "fit",
    "fit_vocabulary",
    "from_module",
    "hashed_ngrams",
    "leaf_log_probs",
    "node_log_probs",
    "select_features",
    "soft_label_loss",
]
