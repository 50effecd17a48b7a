"""The hierarchical multi-task network, compiled from a task tree and trained on soft labels."""

from metal_jax._core.optimiser import OptimiserConfig
from metal_jax._core.training_config import TrainingConfig
from metal_jax._core.training_logs import LogConfig
from metal_jax.checkpoint import CheckpointConfig
from metal_jax.network._compiler.build import (
    Network,
    build,
    leaf_log_probs,
    node_log_probs,
)
from metal_jax.network._compiler.config import NetworkConfig, TaskConfig
from metal_jax.network._compiler.draw import draw
from metal_jax.network._compiler.slice_experts import slice_aware, slice_task, with_membership
from metal_jax.network._compiler.task_params import task_params, transfer_params, with_task_params
from metal_jax.network._encoders.cnn import cnn
from metal_jax.network._encoders.embedding_bag import embedding_bag
from metal_jax.network._encoders.encoder import Encoder, from_module
from metal_jax.network._encoders.input_maps import (
    BagInputs,
    EmbeddingInputs,
    FeatureInputs,
    InputMap,
    TokenInputs,
    fit_inputs,
)
from metal_jax.network._encoders.lstm import lstm_encoder
from metal_jax.network._encoders.ngrams import (
    BagOfFeatures,
    Vocabulary,
    fit_vocabulary,
    hashed_ngrams,
    select_features,
)
from metal_jax.network._encoders.sentence_embeddings import sentence_embeddings
from metal_jax.network._encoders.tokeniser import (
    TokenisedTexts,
    Tokeniser,
    Tokens,
    fit_tokeniser,
    split_tokens,
    tokenise,
)
from metal_jax.network._encoders.vectors import (
    Standardisation,
    fit_standardisation,
    mlp,
    precomputed,
    standardise,
)
from metal_jax.network._evaluation.error_buckets import (
    ErrorBucket,
    error_buckets,
    format_error_buckets,
)
from metal_jax.network._evaluation.evaluate import (
    Evaluation,
    PathScores,
    TaskScores,
    evaluate,
    evaluate_predictions,
    evaluate_slices,
)
from metal_jax.network._evaluation.record import evaluation_record
from metal_jax.network._evaluation.temperature import (
    calibrate,
    fit_temperatures,
    scale_temperatures,
    with_temperatures,
)
from metal_jax.network._model_files import (
    Model,
    Predictions,
    evaluate_model,
    example_inputs,
    load_model,
    predict,
    predict_function,
    save_model,
)
from metal_jax.network._training.examples import Examples
from metal_jax.network._training.fit import FitConfig, FitResult, fit
from metal_jax.network._training.loss_config import ConsistencyConfig, LossConfig
from metal_jax.network._training.losses import consistency_loss, soft_label_loss, task_losses
from metal_jax.network._training.targets import (
    conditional_balance,
    conditional_probs,
    confident_tasks,
    smooth_labels,
)
from metal_jax.network._training.task_balance import (
    gradient_norm_loss,
    learned_task_weights,
    task_gradient_norms,
    uncertainty_weighted_loss,
)
from metal_jax.network._tuning.plot import plot_tuning
from metal_jax.network._tuning.search_space import Choice, LogUniform, SearchSpace, Uniform
from metal_jax.network._tuning.tune import TuneConfig, TuneResult, tune

__all__ = [
    "BagInputs",
    "BagOfFeatures",
    "CheckpointConfig",
    "Choice",
    "ConsistencyConfig",
    "EmbeddingInputs",
    "Encoder",
    "ErrorBucket",
    "Evaluation",
    "Examples",
    "FeatureInputs",
    "FitConfig",
    "FitResult",
    "InputMap",
    "LogConfig",
    "LogUniform",
    "LossConfig",
    "Model",
    "Network",
    "NetworkConfig",
    "OptimiserConfig",
    "PathScores",
    "Predictions",
    "SearchSpace",
    "Standardisation",
    "TaskConfig",
    "TaskScores",
    "TokenInputs",
    "TokenisedTexts",
    "Tokeniser",
    "Tokens",
    "TrainingConfig",
    "TuneConfig",
    "TuneResult",
    "Uniform",
    "Vocabulary",
    "build",
    "calibrate",
    "cnn",
    "conditional_balance",
    "conditional_probs",
    "confident_tasks",
    "consistency_loss",
    "draw",
    "embedding_bag",
    "error_buckets",
    "evaluate",
    "evaluate_model",
    "evaluate_predictions",
    "evaluate_slices",
    "evaluation_record",
    "example_inputs",
    "fit",
    "fit_inputs",
    "fit_standardisation",
    "fit_temperatures",
    "fit_tokeniser",
    "fit_vocabulary",
    "format_error_buckets",
    "from_module",
    "gradient_norm_loss",
    "hashed_ngrams",
    "leaf_log_probs",
    "learned_task_weights",
    "load_model",
    "lstm_encoder",
    "mlp",
    "node_log_probs",
    "plot_tuning",
    "precomputed",
    "predict",
    "predict_function",
    "save_model",
    "scale_temperatures",
    "select_features",
    "sentence_embeddings",
    "slice_aware",
    "slice_task",
    "smooth_labels",
    "soft_label_loss",
    "split_tokens",
    "standardise",
    "task_gradient_norms",
    "task_losses",
    "task_params",
    "tokenise",
    "transfer_params",
    "tune",
    "uncertainty_weighted_loss",
    "with_membership",
    "with_task_params",
    "with_temperatures",
]
