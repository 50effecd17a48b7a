"""The hierarchical multi-task network, compiled from a task tree and trained on soft labels."""

from metal_jax._core.optimiser import OptimiserConfig
from metal_jax._core.training_config import TrainingConfig
from metal_jax._core.training_logs import LogConfig
from metal_jax.checkpoint import CheckpointConfig
from metal_jax.network._build import (
    Network,
    build,
    leaf_log_probs,
    node_log_probs,
)
from metal_jax.network._cnn import cnn
from metal_jax.network._config import NetworkConfig, TaskConfig
from metal_jax.network._draw import draw
from metal_jax.network._embedding_bag import embedding_bag
from metal_jax.network._encoders import Encoder, from_module
from metal_jax.network._fit import Examples, FitConfig, FitResult, fit, soft_label_loss
from metal_jax.network._lstm_encoder import lstm_encoder
from metal_jax.network._ngrams import (
    BagOfFeatures,
    Vocabulary,
    fit_vocabulary,
    hashed_ngrams,
    select_features,
)
from metal_jax.network._sentence_embeddings import sentence_embeddings
from metal_jax.network._task_params import task_params, transfer_params, with_task_params
from metal_jax.network._tokeniser import (
    TokenisedTexts,
    Tokeniser,
    Tokens,
    fit_tokeniser,
    split_tokens,
    tokenise,
)
from metal_jax.network._vector_encoders import (
    Standardisation,
    fit_standardisation,
    mlp,
    precomputed,
    standardise,
)

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
    "Standardisation",
    "TaskConfig",
    "TokenisedTexts",
    "Tokeniser",
    "Tokens",
    "TrainingConfig",
    "Vocabulary",
    "build",
    "cnn",
    "draw",
    "embedding_bag",
    "fit",
    "fit_standardisation",
    "fit_tokeniser",
    "fit_vocabulary",
    "from_module",
    "hashed_ngrams",
    "leaf_log_probs",
    "lstm_encoder",
    "mlp",
    "node_log_probs",
    "precomputed",
    "select_features",
    "sentence_embeddings",
    "soft_label_loss",
    "split_tokens",
    "standardise",
    "task_params",
    "tokenise",
    "transfer_params",
    "with_task_params",
]
