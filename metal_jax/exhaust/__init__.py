"""Developer exhaust: predict the metrics of networks never trained from the logs of others.

After Zhang et al., *Exploring the Utility of Developer Exhaust*, DEEM 2018. What that paper's
abstract does not fix (costs, encodings, limits) is a choice of this library.

- A run is one training run; on disk, one line of JSON (`read_runs`, `write_runs`).
- Readers return the runs and the problems: what could not be read, with its place and its text.
- `target` is what is predicted of a run; `pairwise` and `predict_from_neighbours` predict it.
"""

from metal_jax.exhaust._architecture import (
    Architecture,
    Edge,
    Graph,
    Layer,
    live,
)
from metal_jax.exhaust._architecture_text import (
    read_architecture,
    read_cell_string,
    read_layer_list,
    read_layer_string,
    read_recurrent_cell,
)
from metal_jax.exhaust._baselines import BASELINES, predict_baseline
from metal_jax.exhaust._columns import Columns
from metal_jax.exhaust._curve_baselines import (
    CURVE_BASELINES,
    first_epochs,
    fit_power_law,
    predict_from_curve,
)
from metal_jax.exhaust._edit_distance import pairwise
from metal_jax.exhaust._features import FeatureMap, build_features, features
from metal_jax.exhaust._files import (
    Problem,
    Reading,
    read_runs,
    write_problems,
    write_runs,
)
from metal_jax.exhaust._folds import fold_of
from metal_jax.exhaust._grammar import (
    LayerGrammar,
    mutate_architecture,
    num_multiplications,
    output_shapes,
    sample_architectures,
)
from metal_jax.exhaust._graph_distance import graph_distance
from metal_jax.exhaust._keras_log import read_keras_logs
from metal_jax.exhaust._keras_model import read_keras_model
from metal_jax.exhaust._layer_costs import EditCosts
from metal_jax.exhaust._layer_kinds import num_layers, unknown_layers
from metal_jax.exhaust._neighbours import (
    predict_from_closest_depth,
    predict_from_neighbours,
    predict_mean,
)
from metal_jax.exhaust._open_logs import OPEN_LOGS, OpenLogs, read_open_logs
from metal_jax.exhaust._predictor import (
    Prediction,
    Predictor,
    fit_predictor,
    predict,
)
from metal_jax.exhaust._predictor_files import load_predictor, save_predictor
from metal_jax.exhaust._predictor_network import NetworkConfig
from metal_jax.exhaust._predictor_training import PredictorConfig
from metal_jax.exhaust._recorder import RunRecorder, recover_runs
from metal_jax.exhaust._recorder_hooks import (
    KerasRecorder,
    run_of_jax,
    run_of_keras,
    run_of_torch,
)
from metal_jax.exhaust._records import (
    Curve,
    RecordError,
    Run,
    curve,
    from_json,
    to_json,
)
from metal_jax.exhaust._search import (
    Choice,
    expected_improvement,
    log_expected_improvement,
    regret,
    search,
    top_k_overlap,
)
from metal_jax.exhaust._successive import (
    CurvePredictor,
    SearchTrace,
    SuccessiveConfig,
    best_at,
    successive_search,
)
from metal_jax.exhaust._table import read_table
from metal_jax.exhaust._targets import (
    best_epoch,
    elapsed_seconds,
    goal,
    is_log_modelled,
    num_epochs,
    target,
    targets,
)
from metal_jax.exhaust._tensorboard import read_tensorboard
from metal_jax.exhaust._text_log import LogPatterns, read_log_patterns, read_text_logs
from metal_jax.exhaust._tokens import Tokens, Vocabulary, build_vocabulary, tokenise
from metal_jax.exhaust._torch_text import read_torch_text

__all__ = [
    "BASELINES",
    "CURVE_BASELINES",
    "OPEN_LOGS",
    "Architecture",
    "Choice",
    "Columns",
    "Curve",
    "CurvePredictor",
    "Edge",
    "EditCosts",
    "FeatureMap",
    "Graph",
    "KerasRecorder",
    "Layer",
    "LayerGrammar",
    "LogPatterns",
    "NetworkConfig",
    "OpenLogs",
    "Prediction",
    "Predictor",
    "PredictorConfig",
    "Problem",
    "Reading",
    "RecordError",
    "Run",
    "RunRecorder",
    "SearchTrace",
    "SuccessiveConfig",
    "Tokens",
    "Vocabulary",
    "best_at",
    "best_epoch",
    "build_features",
    "build_vocabulary",
    "curve",
    "elapsed_seconds",
    "expected_improvement",
    "features",
    "first_epochs",
    "fit_power_law",
    "fit_predictor",
    "fold_of",
    "from_json",
    "goal",
    "graph_distance",
    "is_log_modelled",
    "live",
    "load_predictor",
    "log_expected_improvement",
    "mutate_architecture",
    "num_epochs",
    "num_layers",
    "num_multiplications",
    "output_shapes",
    "pairwise",
    "predict",
    "predict_baseline",
    "predict_from_closest_depth",
    "predict_from_curve",
    "predict_from_neighbours",
    "predict_mean",
    "read_architecture",
    "read_cell_string",
    "read_keras_logs",
    "read_keras_model",
    "read_layer_list",
    "read_layer_string",
    "read_log_patterns",
    "read_open_logs",
    "read_recurrent_cell",
    "read_runs",
    "read_table",
    "read_tensorboard",
    "read_text_logs",
    "read_torch_text",
    "recover_runs",
    "regret",
    "run_of_jax",
    "run_of_keras",
    "run_of_torch",
    "sample_architectures",
    "save_predictor",
    "search",
    "successive_search",
    "target",
    "targets",
    "to_json",
    "tokenise",
    "top_k_overlap",
    "unknown_layers",
    "write_problems",
    "write_runs",
]
