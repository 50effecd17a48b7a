r"""Tied emissions for large trees: votes told apart by their relation to the true path.

A full table of an LF has an entry for every (voted node, leaf) pair, leaves squared. Tied, the vote
of LF j given leaf y is drawn in two steps: its *relation* r to the path of y, "on the path" or
"turned off at depth h" (h = 0: already at the root task), with probability :math:`\theta_{jr}(y)`;
then the node, among those that LF j uses and that stand in this relation to y, in proportion to how
often it uses them:

.. math:: \log P(\lambda_j = u \mid y) = \log \theta_{j, r(u, y)}(y) + \log b_{ju}
    - \log \sum_{u' : r(u', y) = r(u, y)} b_{ju'}.

There are LFs x (depth + 1) x leaves entries, and the sums over nodes are taken up and down the tree
(`relation_mass`), never over pairs. As an operator on tables of relations, `RelationIncidence` has
the same form as the indicator matrix, so that EM needs no second version.

Legend: `n` items, `m` LFs, `R` = depth + 1 relations, `N` label nodes, `s` leaf states.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax.label_model._votes import to_device, vote_codes
from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree


def relations(tree: TaskTree) -> np.ndarray:
    """The relation of every node to the path of every leaf.

    Args:
        tree: the task tree.

    Returns:
        int8[N + 1, s]: the depth at which the paths part, `tree.depth` where the node lies on the
        leaf's path, -1 for leaves of other roots; the last row, for no vote, is -1.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> relations(tree)[tree.node("b", "u")].tolist()  # u; v: parts at b; y: parts at a
        [2, 1, 0]
    """
    shared = tree.covers.astype(np.int8)  # nodes above or at each one that the paths share
    for node, parent in enumerate(tree.node_parent):  # breadth first: parents come earlier
        if parent >= 0:
            shared[node] += shared[parent]
    relation = np.where(tree.covers, np.int8(tree.depth), shared)
    other = tree.node_root[:, None] != tree.node_root[tree.leaf_nodes]
    relation[other] = -1
    return np.concatenate([relation, np.full((1, tree.num_leaves), -1, np.int8)])


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["votes", "relation"],
    meta_fields=["num_relations"],
)
@dataclasses.dataclass(frozen=True)
class RelationIncidence:
    """Votes as an operator on tables `[m * R, s]`; see the module's text.

    Attributes:
        votes: int[n, m] node ids, negative = no vote.
        relation: int8[N + 1, s] from `relations`.
        num_relations: R (static).
    """

    votes: jax.Array
    relation: jax.Array
    num_relations: int

    def apply(self, table: jax.Array) -> jax.Array:
        """For each item and leaf the sum of the entries its votes select: float[n, s]."""
        n, m = self.votes.shape
        table = table.reshape(m, self.num_relations, -1)

        def add(total: jax.Array, lf: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            vote, row = lf
            relation = self.relation[vote]
            for r in range(self.num_relations):
                total = total + jnp.where(relation == r, row[r], 0)
            return total, None

        start = jnp.zeros((n, self.relation.shape[1]), table.dtype)
        return jax.lax.scan(add, start, (_rows(self.votes), table))[0]

    def transpose_apply(self, values: jax.Array) -> jax.Array:
        """For each LF, relation and leaf the sum of `values` [n, s] over items: [m * R, s]."""

        def count(_: None, vote: jax.Array) -> tuple[None, jax.Array]:
            relation = self.relation[vote]
            parts = [
                jnp.sum(jnp.where(relation == r, values, 0), axis=0)
                for r in range(self.num_relations)
            ]
            return None, jnp.stack(parts)

        counts = jax.lax.scan(count, None, _rows(self.votes))[1]
        return counts.reshape(-1, values.shape[1])

    def by_lf(self, table: jax.Array) -> jax.Array:
        """The entry each vote selects from `table` float[m, R, s]: float[n, m, s]."""
        relation = self.relation[_rows(self.votes).T]  # [n, m, s]
        parts = [jnp.where(relation == r, table[:, r], 0) for r in range(self.num_relations)]
        return sum(parts, start=jnp.zeros_like(parts[0]))


def relation_incidence(votes: np.ndarray, columns: Columns, tree: TaskTree) -> RelationIncidence:
    """The operator of hard votes; a vote without a column carries no information.

    Args:
        votes: int[n, m] node ids, negative = no vote.
        columns: the columns of these LFs.
        tree: the task tree.

    Returns:
        The operator, R = `tree.depth + 1`.
    """
    known = vote_codes(votes, columns) >= 0
    hard = np.where(known, votes, -1)
    table = to_device(relations(tree), np.int8)
    return RelationIncidence(to_device(hard, hard.dtype), table, tree.depth + 1)


def _rows(votes: jax.Array) -> jax.Array:
    """int32[m, n], rows of the relation table; -1, the last one, where there is no vote."""
    return jnp.maximum(votes.astype(jnp.int32), -1).T


def relation_mass(counts: np.ndarray, columns: Columns, tree: TaskTree) -> np.ndarray:
    """How many votes each LF has cast for nodes in each relation to each leaf.

    Args:
        counts: float[d], votes of each column.
        columns: the used columns.
        tree: the task tree.

    Returns:
        float[m, R, s]; 0 where the LF uses no such node. O(m N), by sums up and down the tree.
    """
    own = np.zeros((columns.num_lfs, tree.num_nodes))
    own[columns.lf, columns.symbol] = counts
    under = own.copy()
    for node in range(tree.num_nodes - 1, -1, -1):  # breadth first: children come later
        if tree.node_parent[node] >= 0:
            under[:, tree.node_parent[node]] += under[:, node]
    # Votes that turn off just above a node, to its siblings. Sums of those before and after it,
    # not a difference: with weights as counts that would leave rounding errors for zeros.
    off = np.zeros_like(under)
    for nodes in tree.task_nodes:
        off[:, nodes] = _sums_before(under[:, nodes])
        off[:, nodes] += _sums_before(under[:, nodes[::-1]])[:, ::-1]
    parent = tree.node_parent
    mass = np.zeros((columns.num_lfs, tree.depth + 1, tree.num_leaves))
    node, leaf = tree.leaf_nodes.copy(), np.arange(tree.num_leaves)
    depth = np.array([len(tree.ancestors(u)) for u in range(tree.num_nodes)])
    while len(node):
        mass[:, depth[node], leaf] = off[:, node]
        mass[:, tree.depth, leaf] += own[:, node]
        alive = parent[node] >= 0
        node, leaf = parent[node[alive]], leaf[alive]
    return mass


def _sums_before(values: np.ndarray) -> np.ndarray:
    """Along the last axis, for each entry the sum of those before it."""
    return np.cumsum(np.pad(values[:, :-1], ((0, 0), (1, 0))), axis=1)
