"""Label models: how far to trust each labelling function, learnt without gold labels."""

from metal_jax._core.minimise import MinimiseConfig
from metal_jax.label_model._class_balance import uniform_class_balance
from metal_jax.label_model._cliques import CliqueTables
from metal_jax.label_model._dawid_skene import DawidSkeneConfig, fit_dawid_skene
from metal_jax.label_model._dawid_skene_prior import (
    DirichletPrior,
    TiedEntries,
    dirichlet_prior,
    tied_entries,
)
from metal_jax.label_model._dawid_skene_steps import VoteData, e_step, m_step, vote_data
from metal_jax.label_model._dependencies import DependencyConfig, fit_with_dependencies
from metal_jax.label_model._detectors import DetectorPrior
from metal_jax.label_model._discovery import Dependencies, DiscoveryConfig, discover_dependencies
from metal_jax.label_model._extend import add_lfs
from metal_jax.label_model._glad import GladConfig, GladParams, fit_glad
from metal_jax.label_model._glad_em import glad_e_step, glad_m_step
from metal_jax.label_model._gold import gold_mask
from metal_jax.label_model._graph import JunctionTree, junction_tree
from metal_jax.label_model._incidence import (
    CodedIncidence,
    DenseIncidence,
    Incidence,
    SparseIncidence,
    incidence,
)
from metal_jax.label_model._inverse_form import inverse_form_rates
from metal_jax.label_model._kinds import annotator_probability
from metal_jax.label_model._leave_one_out import LeaveOneOut, leave_one_out
from metal_jax.label_model._lf_roots import LFRoots
from metal_jax.label_model._mace import MaceConfig, MaceParams, fit_mace
from metal_jax.label_model._mace_em import mace_m_step, mace_tables
from metal_jax.label_model._majority import majority_vote
from metal_jax.label_model._mixture import fit
from metal_jax.label_model._mixture_params import MixtureConfig, MixtureParams
from metal_jax.label_model._moments import (
    TripleStatistics,
    estimate_class_balance,
    third_order_objective,
    triple_statistics,
)
from metal_jax.label_model._overlap import (
    OverlapConfig,
    fit_overlap,
    fit_overlap_from_votes,
    paper_sgd,
)
from metal_jax.label_model._polish import polish_tables
from metal_jax.label_model._predict import posterior_function
from metal_jax.label_model._rates import (
    VoteList,
    overlap_objective,
    overlap_objective_from_votes,
    prior_conditional_rates,
    rates_to_tables,
)
from metal_jax.label_model._relations import RelationIncidence
from metal_jax.label_model._result import (
    Explanation,
    FitResult,
    VoteModel,
    explain,
    lf_accuracy,
    lf_accuracy_by_root,
    posterior,
)
from metal_jax.label_model._stream_fit import StreamConfig, fit_stream
from metal_jax.label_model._stream_labels import label_stream, read_stream_labels
from metal_jax.label_model._suggestions import SuggestedDependency, suggest_dependencies
from metal_jax.label_model._tables import (
    ConditionalTables,
    log_posterior,
    tables_lf_accuracy,
    vote_log_likelihood,
)
from metal_jax.label_model._triplet_moments import triplet_magnitudes
from metal_jax.label_model._triplets import TripletConfig, fit_triplets
from metal_jax.label_model._trust import Diagnosis, bootstrap_lf_accuracy, diagnose
from metal_jax.label_model._votes import checked_votes

__all__ = [
    "CliqueTables",
    "CodedIncidence",
    "ConditionalTables",
    "DawidSkeneConfig",
    "DenseIncidence",
    "Dependencies",
    "DependencyConfig",
    "DetectorPrior",
    "Diagnosis",
    "DirichletPrior",
    "DiscoveryConfig",
    "Explanation",
    "FitResult",
    "GladConfig",
    "GladParams",
    "Incidence",
    "JunctionTree",
    "LFRoots",
    "LeaveOneOut",
    "MaceConfig",
    "MaceParams",
    "MinimiseConfig",
    "MixtureConfig",
    "MixtureParams",
    "OverlapConfig",
    "RelationIncidence",
    "SparseIncidence",
    "StreamConfig",
    "SuggestedDependency",
    "TiedEntries",
    "TripleStatistics",
    "TripletConfig",
    "VoteData",
    "VoteList",
    "VoteModel",
    "add_lfs",
    "annotator_probability",
    "bootstrap_lf_accuracy",
    "checked_votes",
    "diagnose",
    "dirichlet_prior",
    "discover_dependencies",
    "e_step",
    "estimate_class_balance",
    "explain",
    "fit",
    "fit_dawid_skene",
    "fit_glad",
    "fit_mace",
    "fit_overlap",
    "fit_overlap_from_votes",
    "fit_stream",
    "fit_triplets",
    "fit_with_dependencies",
    "glad_e_step",
    "glad_m_step",
    "gold_mask",
    "incidence",
    "inverse_form_rates",
    "junction_tree",
    "label_stream",
    "leave_one_out",
    "lf_accuracy",
    "lf_accuracy_by_root",
    "log_posterior",
    "m_step",
    "mace_m_step",
    "mace_tables",
    "majority_vote",
    "overlap_objective",
    "overlap_objective_from_votes",
    "paper_sgd",
    "polish_tables",
    "posterior",
    "posterior_function",
    "prior_conditional_rates",
    "rates_to_tables",
    "read_stream_labels",
    "suggest_dependencies",
    "tables_lf_accuracy",
    "third_order_objective",
    "tied_entries",
    "triple_statistics",
    "triplet_magnitudes",
    "uniform_class_balance",
    "vote_data",
    "vote_log_likelihood",
]
