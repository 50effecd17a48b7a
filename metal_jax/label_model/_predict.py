"""The posterior of a fit as a pure function of the votes: to jit, export, shard or stream.

Legend: `n` items, `m` LFs, `N` label nodes, `s` leaf states.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import ArrayLike

from metal_jax._core.checks import check_integer, check_shape, real_jax_array
from metal_jax._core.sharding import map_over_data
from metal_jax.label_model._glad import GladParams
from metal_jax.label_model._result import FitResult
from metal_jax.labeling import ABSTAIN
from metal_jax.task_tree import log_normalise_roots


def posterior_function(result: FitResult) -> Callable[[jax.Array], jax.Array]:
    """The posterior of a fit, without the checks on the host that `posterior` makes.

    Pure: `jax.jit`, `jax.vmap` over sets of items, `jax.export` with a symbolic number of items and
    sharded votes apply; the parameters are constants of the program. A value that is no node of
    the tree counts as no vote or as some other vote; `labeling.validate` finds it.

    Args:
        result: a fit of any family but GLAD, whose votes are sorted on the host.

    Returns:
        int[n, m] node ids, negative = no vote, or float[n, m, N] soft votes -> float[n, s].

    Raises:
        ValueError: a GLAD fit. The function: votes of another number of LFs.

    Example:
        >>> import numpy as np
        >>> from metal_jax.label_model import fit
        >>> from metal_jax.task_tree import TaskTree
        >>> votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 10)
        >>> function = posterior_function(fit(votes, TaskTree.single(2)))
        >>> jax.jit(function)(votes[:4]).argmax(1).tolist()
        [0, 1, 0, 1]
    """
    if isinstance(result.params, GladParams):
        raise ValueError("a GLAD fit has no posterior function; use posterior")
    tree, columns, pairs = result.tree, result.columns, result.lf_roots
    own = columns if pairs is None else pairs.split_columns(columns, tree)

    def function(votes: jax.Array) -> jax.Array:
        votes = real_jax_array("votes", votes)
        if votes.ndim not in (2, 3):
            raise ValueError(f"votes: got shape {votes.shape}, expected [n items, m LFs]")
        if votes.ndim == 2:
            check_integer("votes", votes)
        check_shape("votes", votes, (votes.shape[0], columns.num_lfs, *votes.shape[2:]))
        votes = votes if pairs is None else pairs.split_votes(votes, tree)
        log_q = result.params.log_posterior(votes, own, tree)
        return jnp.exp(log_normalise_roots(tree, log_q))

    return function


def posterior_program(result: FitResult, mesh: Mesh | None) -> Callable[[ArrayLike], jax.Array]:
    """`posterior_function`, compiled, with the items spread over a mesh.

    Args:
        result: a fit.
        mesh: with an axis "data"; None for one device.

    Returns:
        As `posterior_function`.
    """
    function = posterior_function(result)
    if mesh is None:
        return jax.jit(function)
    return jax.jit(lambda votes: map_over_data(function, votes, mesh, fill=ABSTAIN))
