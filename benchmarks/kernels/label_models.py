"""Fits, EM steps and posteriors of label models, and sums over task trees.

Legend: `n` items, `m` LFs, `k` classes, `s` leaf states.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Case
from metal_jax.label_model import (
    DawidSkeneConfig,
    FitResult,
    MinimiseConfig,
    OverlapConfig,
    dirichlet_prior,
    e_step,
    fit,
    fit_dawid_skene,
    fit_overlap_from_votes,
    m_step,
    paper_sgd,
    posterior,
    vote_data,
)
from metal_jax.labeling import synthetic_votes, used_columns
from metal_jax.task_tree import Task, TaskTree, node_logsumexp, node_sum

_SIZES = {
    "ci": ((500, 6, 2),),
    "small": ((20_000, 50, 2),),
    "full": ((100_000, 50, 2), (100_000, 50, 5), (1_200, 136, 20)),
}
_SOLVERS = {
    "L-BFGS": OverlapConfig(),
    "SGD, 500 steps": OverlapConfig(minimise=paper_sgd()),
    "Adam": OverlapConfig(minimise=MinimiseConfig(method="adam")),
    "without O": OverlapConfig(form_overlaps=False),
}


def votes_of(n: int, m: int, k: int) -> np.ndarray:
    """int8[n, m] synthetic votes of LFs that know something."""
    data = synthetic_votes(jax.random.key(0), n, m, TaskTree.single(k))
    return np.ascontiguousarray(data.votes, np.int8)


def _problems(sizes: str) -> list[tuple[str, np.ndarray, TaskTree]]:
    return [
        (f"n={n:,} m={m} k={k}", votes_of(n, m, k), TaskTree.single(k)) for n, m, k in _SIZES[sizes]
    ]


def overlap_fits(sizes: str) -> list[Case]:
    """Statistics and solve, from votes on the host, by each solver."""
    solvers = dict(list(_SOLVERS.items())[:1]) if sizes == "ci" else _SOLVERS
    return [
        Case(
            f"{name}, {solver}",
            lambda votes=votes, tree=tree, config=config: (
                fit_overlap_from_votes(votes, tree, config=config).params
            ),
        )
        for name, votes, tree in _problems(sizes)
        for solver, config in solvers.items()
    ]


def default_fits(sizes: str) -> list[Case]:
    """The default model, from votes on the host."""
    return [
        Case(name, lambda votes=votes, tree=tree: fit(votes, tree).params)
        for name, votes, tree in _problems(sizes)
    ]


def em_steps(sizes: str) -> list[Case]:
    """One E-step and M-step of Dawid-Skene, votes as operators on the device."""
    return [em_step_case(*problem) for problem in _problems(sizes)]


def em_step_case(name: str, votes: np.ndarray, tree: TaskTree) -> Case:
    """The step on these votes."""
    columns, s = used_columns(votes), tree.num_leaves
    data = vote_data(votes, columns)
    prior = dirichlet_prior(
        columns, tree, np.zeros(votes.shape[1]), accuracy=0.7, votes=1.0, balance_items=1.0
    )
    prior = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), prior)
    tables = fit_dawid_skene(votes, tree, config=DawidSkeneConfig(max_steps=1)).params

    def step(tables, data, prior):
        log_q, evidence = e_step(tables, data, tree)
        return m_step(log_q, data, prior, tree), evidence

    return Case(
        name,
        step,
        (tables, data, prior),
        operations=4 * int((votes >= 0).sum()) * s,
        num_bytes=2 * votes.nbytes + 8 * len(votes) * s,
        note="a row added for each vote, there and back; probabilities written and read",
    )


def posteriors(sizes: str) -> list[Case]:
    """Soft labels, from votes on the host."""
    return [
        posterior_case(f"{name}, {method}", votes, fitted(votes, tree))
        for name, votes, tree in _problems(sizes)
        for method, fitted in (("tables", fit_overlap_from_votes), ("default", fit))
    ]


def posterior_case(name: str, votes: np.ndarray, result: FitResult) -> Case:
    """Soft labels of these votes by a fitted model."""
    num_leaves = result.tree.num_leaves
    return Case(
        name,
        lambda: posterior(result, votes),
        operations=2 * int((votes >= 0).sum()) * num_leaves,
        num_bytes=votes.nbytes + 4 * len(votes) * num_leaves,
        note="a row added for each vote",
    )


def _tree(num_leaves: int) -> TaskTree:
    """A root of about sqrt(num_leaves) labels, and a task as wide under each."""
    width = round(num_leaves**0.5)
    labels = tuple(map(str, range(width)))
    below = [Task(f"task {i}", labels, ("root", labels[i])) for i in range(width)]
    return TaskTree.from_tasks([Task("root", labels), *below])


def tree_sums(sizes: str) -> list[Case]:
    """Sums and log-sums over the leaves beneath each node."""
    shapes = {"ci": ((50, 9),), "small": ((10_000, 100),), "full": ((10_000, 100), (10_000, 1936))}
    return [tree_sum_case(*shape) for shape in shapes[sizes]]


def tree_sum_case(n: int, leaves: int) -> Case:
    """The sums of n items on a tree of two levels; `leaves` is a square."""
    tree = _tree(leaves)
    return Case(
        f"n={n:,} leaves={leaves}",
        lambda x: (node_sum(tree, x), node_logsumexp(tree, x)),
        (jnp.ones((n, tree.num_leaves)),),
    )
