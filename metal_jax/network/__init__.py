"""The hierarchical multi-task network, compiled from a task tree and trained on soft labels."""

from metal_jax._core.training import TrainingConfig
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
    embedding_bag,
    from_module,
    hashed_ngrams,
)
from metal_jax.network._fit import Examples, FitConfig, FitResult, fit, soft_label_loss

__all__ = [
    "BagOfFeatures",
    "Encoder",
    "Examples",
    "FitConfig",
    "FitResult",
    "Network",
    "NetworkConfig",
    "TrainingConfig",
    "build",
    "embedding_bag",
    "fit",
    "from_module",
    "hashed_ngrams",
    "leaf_log_probs",
    "node_log_probs",
    "soft_label_loss",
]
