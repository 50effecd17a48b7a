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
    Vocabulary,
    embedding_bag,
    fit_vocabulary,
    from_module,
    hashed_ngrams,
    select_features,
)
from metal_jax.network._examples import Examples
from metal_jax.network._fit import FitConfig, FitResult, fit
from metal_jax.network._loss_config import ConsistencyConfig, LossConfig
from metal_jax.network._losses import consistency_loss, soft_label_loss, task_losses
from metal_jax.network._targets import (
    conditional_balance,
    conditional_probs,
    confident_tasks,
    smooth_labels,
)
from metal_jax.network._task_balance import (
    gradient_norm_loss,
    learned_task_weights,
    task_gradient_norms,
    uncertainty_weighted_loss,
)

__all__ = [
    "BagOfFeatures",
    "ConsistencyConfig",
    "Encoder",
    "Examples",
    "FitConfig",
    "FitResult",
    "LossConfig",
    "Network",
    "NetworkConfig",
    "TrainingConfig",
    "Vocabulary",
    "build",
    "conditional_balance",
    "conditional_probs",
    "confident_tasks",
    "consistency_loss",
    "embedding_bag",
    "fit",
    "fit_vocabulary",
    "from_module",
    "gradient_norm_loss",
    "hashed_ngrams",
    "leaf_log_probs",
    "learned_task_weights",
    "node_log_probs",
    "select_features",
    "smooth_labels",
    "soft_label_loss",
    "task_gradient_norms",
    "task_losses",
    "uncertainty_weighted_loss",
]
