r"""Which LFs depend on each other given the truth, found without gold labels.

Latent-tree structural EM. Given a posterior q over the leaf states, every pair of LFs has expected
counts :math:`N_{y}(a, b) = \sum_i q_i(y) [\lambda_{ij} = a, \lambda_{ij'} = b]` and

.. math:: G_{jj'} = n\, I_q(\lambda_j; \lambda_{j'} \mid Y)
    - \tfrac{\log n}{2} \, s\, (r_j - 1)(r_{j'} - 1),

what an edge gains in log-likelihood minus its price in BIC (Schwarz, 1978), with r the number of
different votes of an LF, abstaining included. The best forest is the maximum spanning forest over
the pairs with a positive gain (Chow & Liu, 1968, conditional on a class as in tree-augmented naive
Bayes; Friedman, Geiger & Goldszmidt, 1997). In a chain i - j - k the pair (i, k) carries less
information than either of its links, so it is never taken: indirect pairs need no further test.
Then q is refitted by EM under that forest, and so on until the forest repeats (Friedman, "The
Bayesian structural EM algorithm", UAI 1998). Testing the residuals of a conditional-independence
fit only once is not enough: where copies bend the posterior, LFs that have nothing to do with each
other look dependent.

**Where the truth comes from.** q starts at the posterior of the default model (`_mixture`). EM
moves an item only as far as annotators voted on it: each step mixes the E-step, with weight
:math:`\omega_i`, the mean annotator probability of the item's votes, and the start. EM over
detectors (keyword LFs) would drift: a class without LFs absorbs what the silent items have in
common, and dependencies are then sought given the wrong truth.

One rule for all data, and a forest for an answer: of three mutual copies it reports two pairs.
Abstains count as votes; give -2 where an LF was never asked.

Legend: `n` items, `m` LFs, `s` leaf states, `K` most different votes of an LF, `e` edges.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax.label_model._cliques import count_symbols, vote_symbols
from metal_jax.label_model._graph import maximum_spanning_forest
from metal_jax.label_model._lf_roots import check_one_root
from metal_jax.label_model._mixture import fit
from metal_jax.label_model._mixture_params import MixtureConfig, MixtureParams
from metal_jax.label_model._result import posterior
from metal_jax.labeling import used_columns, validate
from metal_jax.task_tree import TaskTree, log_normalise_roots

_PSEUDO_COUNT = 0.1  # for each cell of a pair's table


@dataclasses.dataclass(frozen=True)
class DiscoveryConfig:
    """Settings of `discover_dependencies`; one set for all data.

    Attributes:
        penalty: price of an edge, in BIC penalties; more than 1 finds fewer.
        max_rounds: most forests tried.
        max_steps: most EM iterations for each.
        tolerance: EM stops when an iteration moves no item's posterior by more than this.
        mixture: settings of the model that the truth is first taken from.
    """

    penalty: float = 1.0
    max_rounds: int = 20
    max_steps: int = 30
    tolerance: float = 1e-3
    mixture: MixtureConfig = MixtureConfig()

    def __post_init__(self) -> None:
        if self.penalty <= 0:
            raise ValueError(f"penalty: got {self.penalty}, expected a positive number")
        if min(self.max_rounds, self.max_steps) < 1:
            raise ValueError("max_rounds and max_steps: expected at least 1")


class Dependencies(NamedTuple):
    """Dependencies found.

    Attributes:
        edges: int64[e, 2] pairs of LFs, the strongest first; a forest.
        score: float[e], gain in log-likelihood minus the BIC penalty, in nats; positive.
        gain: float[m, m], the same for all pairs, indirect ones included; -inf on the diagonal.
        posterior: float[n, s], leaf states under the last forest.
        converged: whether the forest repeated itself.
        num_rounds: forests tried.
    """

    edges: np.ndarray
    score: np.ndarray
    gain: np.ndarray
    posterior: jax.Array
    converged: bool
    num_rounds: int


def pair_counts(q: jax.Array, symbols: jax.Array, num_symbols: int) -> jax.Array:
    """Expected joint counts of all pairs of LFs in each leaf state; memory O(s (m K)^2).

    Args:
        q: float[n, s].
        symbols: int[n, m], numbers beyond `num_symbols` = unknown.
        num_symbols: K (static).

    Returns:
        float[s, m, K, m, K].

    Example:
        >>> counts = pair_counts(jnp.ones((3, 1)), jnp.array([[0, 1], [0, 1], [1, 1]]), 2)
        >>> counts[0, 0, :, 1].tolist()
        [[0.0, 2.0], [0.0, 1.0]]
    """
    n, m = symbols.shape
    fires = jax.nn.one_hot(symbols, num_symbols, dtype=q.dtype).reshape(n, -1)

    def one_leaf(weight: jax.Array) -> jax.Array:
        weighted = (fires * weight[:, None]).T
        return jnp.matmul(weighted, fires, precision=jax.lax.Precision.HIGHEST)

    return jax.lax.map(one_leaf, q.T).reshape(-1, m, num_symbols, m, num_symbols)


def conditional_information(counts: jax.Array) -> jax.Array:
    r"""The number of items times :math:`I(\lambda_j; \lambda_{j'} \mid Y)`.

    Args:
        counts: float[s, m, K, m, K] from `pair_counts`.

    Returns:
        float[m, m], in nats.
    """
    first = jnp.sum(counts, axis=4, keepdims=True)
    second = jnp.sum(counts, axis=2, keepdims=True)
    both = jnp.sum(first, axis=2, keepdims=True)
    safe_counts, safe_product = (
        jnp.where(counts > 0, x, 1) for x in (counts * both, first * second)
    )
    # Cell by cell: sums of n log n would cancel in float32.
    ratio = jnp.log(safe_counts) - jnp.log(safe_product)
    return jnp.sum(counts * ratio, axis=(0, 2, 4))


class _State(NamedTuple):
    q: jax.Array
    change: jax.Array
    num_steps: jax.Array


@functools.partial(jax.jit, static_argnames=("tree", "num_symbols", "max_steps"))
def _refit(
    start: jax.Array,
    q: jax.Array,
    own: jax.Array,
    symbols: jax.Array,
    parent: jax.Array,
    tolerance: float,
    *,
    tree: TaskTree,
    num_symbols: int,
    max_steps: int,
) -> tuple[jax.Array, jax.Array]:
    """EM under a forest, then the information of all pairs.

    Args:
        start: float[n, s], posterior of the default model, which items keep as far as ...
        q: float[n, s], where EM starts.
        own: float[n], ... this weight of EM's own posterior is below 1.
        symbols: int32[n, m], K = unknown.
        parent: int32[m], -1 for none.
        tolerance: see `DiscoveryConfig`.
        tree: the task tree (static).
        num_symbols: K (static).
        max_steps: see `DiscoveryConfig` (static).

    Returns:
        float[n, s] and float[m, m].
    """
    m, s = symbols.shape[1], q.shape[1]
    lf, size = jnp.arange(m), num_symbols + 1
    # An LF without a parent takes one of which nothing is known.
    above = jnp.where(parent < 0, num_symbols, symbols[:, parent])
    cell = (lf * size + symbols) * size + above

    def e_step(q: jax.Array) -> jax.Array:
        counts = jnp.zeros((m * size * size, s), q.dtype).at[cell].add(q[:, None, :])
        counts = counts.reshape(m, size, size, s)[:, :num_symbols] + _PSEUDO_COUNT
        marginal = jnp.sum(counts, axis=2, keepdims=True)
        counts = jnp.concatenate([counts[:, :, :num_symbols], marginal], axis=2)
        table = jnp.log(counts) - jnp.log(jnp.sum(counts, axis=1, keepdims=True))
        table = jnp.pad(table, ((0, 0), (0, 1), (0, 0), (0, 0)))  # an unknown vote says nothing
        log_prior = jnp.log(jnp.sum(q, axis=0) + 1)
        score = log_prior + jnp.sum(table.reshape(-1, s)[cell], axis=1)
        return jnp.exp(log_normalise_roots(tree, score))

    def body(state: _State) -> _State:
        new = own[:, None] * e_step(state.q) + (1 - own[:, None]) * start
        return _State(new, jnp.max(jnp.abs(new - state.q)), state.num_steps + 1)

    def unfinished(state: _State) -> jax.Array:
        return (state.num_steps < max_steps) & ~(state.change <= tolerance)

    state = _State(q, jnp.asarray(jnp.inf, q.dtype), jnp.int32(0))
    q = jax.lax.while_loop(unfinished, body, state).q
    return q, conditional_information(pair_counts(q, symbols, num_symbols))


def discover_dependencies(
    votes: ArrayLike,
    tree: TaskTree,
    config: DiscoveryConfig = DiscoveryConfig(),
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Dependencies:
    """Find pairs of LFs that agree, or disagree, more than the truth explains.

    Deterministic: no key is needed. No gold label enters.

    Args:
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked.
        tree: the task tree. LFs on different roots of a forest are never linked.
        config: settings.
        on_progress: called before each round, with the number of those that are done.

    Returns:
        The edges, for `fit_with_dependencies`, with their scores.

    Raises:
        ValueError: as `labeling.validate`, all abstains, or an LF that votes on several roots.

    Example:
        >>> from metal_jax.labeling import synthetic_votes
        >>> tree = TaskTree.single(2)
        >>> votes = synthetic_votes(jax.random.key(0), 1000, 8, tree).votes
        >>> votes = np.concatenate([votes, votes[:, :1]], axis=1)
        >>> discover_dependencies(votes, tree).edges.tolist()
        [[0, 8]]
    """
    matrix = validate(votes, tree)
    check_one_root(matrix, tree)
    columns = used_columns(matrix)
    mixture = fit(matrix, tree, config=config.mixture)
    start = posterior(mixture, matrix)
    num_symbols, abstain = count_symbols(matrix, columns, informative_abstains=True)
    size = int(num_symbols.max())
    symbols = vote_symbols(matrix, columns, np.full_like(num_symbols, size), abstain)
    votes_cast = matrix >= 0
    annotator = np.asarray(cast(MixtureParams, mixture.params).annotator)
    own = votes_cast @ annotator / np.maximum(votes_cast.sum(axis=1), 1)

    root = np.full(columns.num_lfs, -1)
    root[columns.lf] = tree.node_root[columns.symbol]
    choices = num_symbols - 1
    leaves = np.array([span.stop - span.start for span in tree.root_leaves])[root]
    price = 0.5 * np.log(len(matrix)) * np.outer(choices, choices) * leaves
    allowed = (root[:, None] == root) & ~np.eye(len(root), dtype=bool) & (price > 0)

    q, gain = start, np.zeros_like(price)
    forest: list[tuple[float, int, int]] = []
    tried: list[set[tuple[int, int]]] = []
    converged = False
    for done in range(config.max_rounds):
        if on_progress is not None:
            on_progress(done)
        q, information = _refit(
            start,
            q,
            jnp.asarray(own, start.dtype),
            symbols,
            jnp.asarray(_parents(forest, columns.num_lfs)),
            config.tolerance,
            tree=tree,
            num_symbols=size,
            max_steps=config.max_steps,
        )
        gain = np.where(allowed, np.asarray(information) - config.penalty * price, -np.inf)
        pairs = [(float(gain[i, j]), i, j) for i, j in np.argwhere(np.triu(gain > 0)).tolist()]
        forest = maximum_spanning_forest(pairs, columns.num_lfs)
        edges = {(i, j) for _, i, j in forest}
        converged = edges in tried
        tried.append(edges)
        if converged:
            break
    return Dependencies(
        edges=np.array([(i, j) for _, i, j in forest], np.int64).reshape(-1, 2),
        score=np.array([score for score, _, _ in forest]),
        gain=gain,
        posterior=q,
        converged=converged,
        num_rounds=len(tried),
    )


def _parents(forest: list[tuple[float, int, int]], num_lfs: int) -> np.ndarray:
    """int32[m], each tree of the forest hung from its first LF; -1 for none."""
    near: dict[int, list[int]] = {v: [] for v in range(num_lfs)}
    for _, i, j in forest:
        near[i].append(j)
        near[j].append(i)
    parent = np.full(num_lfs, -1, np.int32)
    seen: set[int] = set()
    for top in range(num_lfs):
        stack = [] if top in seen else [top]
        while stack:
            v = stack.pop()
            seen.add(v)
            for other in near[v]:
                if other not in seen:
                    parent[other] = v
                    stack.append(other)
    return parent
