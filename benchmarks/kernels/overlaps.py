"""Overlap statistics, and the objective that is fitted to them.

Legend: `n` items, `m` LFs, `k` classes, `d` = m k columns.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Case
from metal_jax.label_model import (
    incidence,
    overlap_objective,
    overlap_objective_from_votes,
    prior_conditional_rates,
)
from metal_jax.label_model._rates import column_blocks
from metal_jax.labeling import Columns, overlap_counts, overlap_statistics
from metal_jax.task_tree import TaskTree

_SIZES = {
    "ci": ((2_000, 6, 2),),
    "small": ((100_000, 50, 2), (20_000, 200, 5)),
    "full": ((1_000_000, 50, 2), (100_000, 200, 5), (100_000, 50, 2), (100_000, 50, 5)),
}


def random_votes(n: int, m: int, k: int, seed: int = 0) -> np.ndarray:
    """int8[n, m], each vote and the abstain equally likely."""
    return np.random.default_rng(seed).integers(-1, k, (n, m), dtype=np.int8)


def all_columns(m: int, k: int) -> Columns:
    """Every LF votes for every class."""
    lf, symbol = np.divmod(np.arange(m * k, dtype=np.int32), k)
    return Columns(lf, symbol.astype(np.int32), m)


def _name(n: int, m: int, k: int) -> str:
    return f"n={n:,} m={m} k={k}"


def statistics(sizes: str) -> list[Case]:
    """The whole call, from votes on the host."""
    return [statistics_case(*size) for size in _SIZES[sizes]]


def statistics_case(n: int, m: int, k: int) -> Case:
    """The whole call at one size."""
    votes = random_votes(n, m, k)
    return Case(
        _name(n, m, k),
        lambda: overlap_statistics(votes).counts,
        operations=n * (m * k) * (m * k + 1),
        num_bytes=votes.nbytes + 4 * (m * k) ** 2,
        arithmetic="int8",
        note="one triangle of the product",
    )


def counts(sizes: str) -> list[Case]:
    """The kernel alone, from votes on the device."""
    cases = []
    for n, m, k in _SIZES[sizes]:
        votes, columns = jnp.asarray(random_votes(n, m, k)), all_columns(m, k)
        cases.append(
            Case(
                _name(n, m, k),
                lambda votes, columns=columns: overlap_counts(votes, columns),
                (votes,),
                operations=n * (m * k) * (m * k + 1),
                arithmetic="int8",
                note="one triangle of the product",
            )
        )
    return cases


def objective(sizes: str) -> list[Case]:
    """Value and gradient from the matrix of pairs."""
    shapes = {"ci": ((6, 2),), "small": ((50, 2),), "full": ((50, 2), (50, 5), (200, 5), (136, 20))}
    cases = []
    for m, k in shapes[sizes]:
        columns, tree = all_columns(m, k), TaskTree.single(k)
        d, balance = m * k, np.full(k, 1 / k)
        rates = jnp.asarray(
            prior_conditional_rates(np.full(d, 0.5 / k), balance, columns, tree), jnp.float32
        )
        fixed = (
            jnp.full((d, d), 0.25 / k**2),
            jnp.asarray(balance, jnp.float32),
            jnp.asarray(columns.lf[:, None] != columns.lf),
            rates,
            jnp.full(d, 1e-3),
        )
        cases.append(
            Case(
                f"m={m} k={k}",
                jax.value_and_grad(overlap_objective),
                (rates, *fixed),
                operations=6 * d * d * k,
                note="three products of d x d x k",
            )
        )
    return cases


def objective_from_votes(sizes: str) -> list[Case]:
    """Value and gradient without the matrix of pairs."""
    shapes = {
        "ci": ((500, 6, 2),),
        "small": ((20_000, 50, 2),),
        "full": ((100_000, 50, 2), (1_200, 136, 20)),
    }
    cases = []
    for n, m, k in shapes[sizes]:
        columns, d = all_columns(m, k), m * k
        votes = random_votes(n, m, k)
        codes = np.where(votes < 0, -1, votes + k * np.arange(m))
        operator = incidence(codes, d, dense=False)
        rates = jnp.full((d, k), 0.5 / k)
        fixed = (jnp.full(d, 0.5 / k), jnp.asarray(column_blocks(columns)), jnp.full(k, 1 / k))
        cases.append(
            Case(
                _name(n, m, k),
                lambda rates, *rest, operator=operator: jax.value_and_grad(
                    overlap_objective_from_votes
                )(rates, operator, *rest),
                (rates, *fixed, rates, jnp.full(d, 1e-3)),
                operations=4 * k * int((votes >= 0).sum()),
                num_bytes=2 * int((votes >= 0).sum()) * (8 + 4 * k),
                note="a row of the table added for each vote, there and back",
            )
        )
    return cases
