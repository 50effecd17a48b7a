"""Label models: how far to trust each labelling function, learnt without gold labels."""

from metal_jax._core.minimise import MinimiseConfig
from metal_jax.label_model._class_balance import uniform_class_balance
from metal_jax.label_model._dawid_skene import (
    DawidSkeneConfig,
    DirichletPrior,
    VoteData,
    dirichlet_prior,
    e_step,
    fit_dawid_skene,
    m_step,
    vote_data,
)
from metal_jax.label_model._incidence import DenseIncidence, Incidence, SparseIncidence, incidence
from metal_jax.label_model._kinds import annotator_probability
from metal_jax.label_model._majority import majority_vote
from metal_jax.label_model._mixture import MixtureConfig, fit
from metal_jax.label_model._mixture_params import MixtureParams
from metal_jax.label_model._overlap import (
    OverlapConfig,
    fit_overlap,
    overlap_objective,
    paper_sgd,
    prior_conditional_rates,
    rates_to_tables,
)
from metal_jax.label_model._result import (
    Explanation,
    FitResult,
    VoteModel,
    explain,
    lf_accuracy,
    posterior,
)
from metal_jax.label_model._tables import (
    ConditionalTables,
    log_posterior,
    tables_lf_accuracy,
    vote_log_likelihood,
)

__all__ = [
    "ConditionalTables",
    "DawidSkeneConfig",
    "DenseIncidence",
    "DirichletPrior",
    "Explanation",
    "FitResult",
    "Incidence",
    "MinimiseConfig",
    "MixtureConfig",
    "MixtureParams",
    "OverlapConfig",
    "SparseIncidence",
    "VoteData",
    "VoteModel",
    "annotator_probability",
    "dirichlet_prior",
    "e_step",
    "explain",
    "fit",
    "fit_dawid_skene",
    "fit_overlap",
    "incidence",
    "lf_accuracy",
    "log_posterior",
    "m_step",
    "majority_vote",
    "overlap_objective",
    "paper_sgd",
    "posterior",
    "prior_conditional_rates",
    "rates_to_tables",
    "tables_lf_accuracy",
    "uniform_class_balance",
    "vote_data",
    "vote_log_likelihood",
]
