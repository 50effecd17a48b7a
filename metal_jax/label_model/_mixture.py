r"""The default label model: annotators and detectors in one posterior.

Votes come from two kinds of LFs that need opposite treatment of a missing vote. With
:math:`t_j` the probability that LF j is an annotator (`_kinds`), the log-posterior of an item is

.. math:: \log q(y) = \frac1T \Bigl[\log p_y + \sum_j t_j \log \theta_j(v_j \mid y)
    + \sum_j (1 - t_j)\, c_j \log \frac{P(y \mid \text{vote}_j)}{p_y}\Bigr] - \log Z.

**Detectors** speak through their precision :math:`P(y \mid \text{vote})`, learnt from pairwise
overlaps (`_detectors`); silence is no evidence on an item, since a class without LFs would absorb
every item that nobody explains. In a tree a vote for a node is a vote for each of its ancestors
too, and its precision is learnt level by level (`level_lifts`): a fine vote that fires too often
for its leaf may still be right about the group. A vote that repeats others for the same node is
discounted by :math:`c_j = 1 / (1 + \sum_{j'} D_{j'j})` over the copies that fired.

**Annotators** speak through Dawid-Skene tables :math:`\theta`, fitted by MAP-EM with the detectors'
score as a fixed offset: Dirichlet prior of 2 votes a leaf around a one-coin table of accuracy 0.7.
The class balance is updated with items weighted by :math:`\omega^3`, :math:`\omega` being the mean
t of an item's votes, and has a Dirichlet prior for each task, of 5 pseudo-items of every label for
each other leaf of the root: coverage by detectors does not say how frequent a class is, votes of
annotators do.

**Temperature.** Errors of annotators on one item are correlated, because items differ in
difficulty. With :math:`\rho` the intra-item correlation of their residuals and d the annotators'
votes on the item, :math:`T = 1 + \rho\, (d - 1)`, the design effect of a cluster sample (Kish,
1965). It changes no label of a posterior, only how sure it is. The residuals are taken under the
model's own, too confident posterior, which hides most of the correlation; nine times the raw
moment undoes that on the open crowds (a constant read off real data, see the benchmark).

**Programs.** The host counts votes and tells the kinds, which decides shapes; the rest is one
compiled program (`_mixture_program`), and matrices of about the same size share it.

One setting for all data: no gold label and no threshold on a statistic of the votes enters.

**What each part is worth**: mean accuracy over 7 sets of LFs and 9 crowds, fitted without gold
(`benchmarks/studies/constants.py`, which also prints every other constant, and the means when each
set's constants are chosen on the other sets: .7870 and .8191).

======================  =======  ======
change                  LF sets  crowds
======================  =======  ======
none                    .7868    .8191
all LFs annotators      .4839    .8193
all LFs detectors       .7808    .7730
no bound on precision   .7615    .8191
no copy discount        .7859    .8191
no class-pair shift     .7861    .8191
class balance fixed     .7866    .8037
majority vote           .7485    .7793
======================  =======  ======

Legend: `n` items, `m` LFs, `d` used (LF, node) columns, `e` columns of possible detectors, `s`
leaf states, `N` label nodes.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from metal_jax._core.sharding import off_mesh
from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._gold import checked_accuracy, checked_supervision
from metal_jax.label_model._lf_roots import lf_roots
from metal_jax.label_model._mixture_params import MixtureConfig
from metal_jax.label_model._mixture_program import Constants, fit_mixture
from metal_jax.label_model._mixture_steps import (
    annotator_problem,
    balance_with_gold,
    convergence,
    detector_data,
    gather_evidence,
    mixture_params,
    spread_evidence,
)
from metal_jax.label_model._result import FitResult, join_lfs
from metal_jax.label_model._votes import checked_votes, to_device
from metal_jax.task_tree import TaskTree


def fit(
    votes: ArrayLike,
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: MixtureConfig = MixtureConfig(),
    *,
    gold: ArrayLike | None = None,
    item_weights: ArrayLike | None = None,
    accuracy: ArrayLike | None = None,
    key: jax.Array | None = None,
    mesh: Mesh | None = None,
) -> FitResult:
    """Fit the default label model. No gold label is needed, and nothing needs setting.

    Deterministic: it starts at its prior. A key only adds restarts, as a check.

    Args:
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked (the model treats both alike), or
            soft votes float[n, m, N], see `checked_votes`.
        tree: the task tree.
        class_balance: float[s], kept fixed if given. Otherwise every label of a task is a priori
            equally likely, detectors leave it at that, and annotators' votes and gold update it.
        config: settings.
        gold: int[n] node ids, -1 = unknown, the truth for some items, drawn like the rest; see
            `gold_mask`. It enters the likelihood of the annotators' tables, the detectors'
            precisions and the class balance. `posterior(..., gold=)` imposes it on the labels.
        item_weights: float[n], how often each item counts; one of weight 0 is as if absent.
        accuracy: float[m], prior accuracy of each LF where you trust some more than others; NaN
            where you do not know.
        key: consumed by restarts of EM from tables drawn from the prior; the result counts how many
            of them agree with it. None for no restarts.
        mesh: devices along an axis "data", over which the items are spread; see `fit_stream` for
            items of several processes.

    Returns:
        The fit; `objective_trace` is the log-likelihood of the annotators' votes over EM.

    Raises:
        ValueError: as `labeling.validate`, all abstains, a bad class balance, gold, weights or
            accuracies.

    Example:
        >>> from metal_jax.label_model import posterior
        >>> votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 10)
        >>> result = fit(votes, TaskTree.single(2))
        >>> posterior(result, votes[:4]).argmax(1).tolist()
        [0, 1, 0, 1]
    """
    matrix = checked_votes(votes, tree)
    trust = checked_accuracy(accuracy, matrix.shape[1])
    rows, known = checked_supervision(gold, item_weights, len(matrix), tree).present()
    pairs = lf_roots(matrix, tree)
    matrix = pairs.split_votes(matrix, tree)[rows]
    weights = np.ones(len(matrix)) if known.weight is None else known.weight
    balance = checked_class_balance(class_balance, tree)
    evidence = gather_evidence(matrix, weights, known.possible, trust[pairs.lf], tree, config)
    if class_balance is None:
        balance = balance_with_gold(balance, evidence, config.balance_items, tree)
    data, prior, log_spread = annotator_problem(evidence, tree, config)
    detectors = detector_data(evidence, balance, tree)
    if mesh is not None:
        data, detectors = spread_evidence(data, detectors, len(matrix), mesh)
    fitted = fit_mixture(
        detectors,
        data,
        prior,
        None if log_spread is None else to_device(log_spread),
        to_device(np.log(balance)),
        Constants(config.detectors, config.correlation_scale, config.tolerance),
        key,
        tree=tree,
        max_steps=config.max_steps,
        fixed_balance=class_balance is not None,
        num_restarts=config.num_restarts,
        minimise=config.minimise,
    )
    state = fitted.state
    converged, status = convergence(fitted, float(state.change), config.tolerance, "max_steps")
    num_steps = int(state.num_steps)
    result = FitResult(
        method="mixture",
        params=off_mesh(mixture_params(fitted, evidence, log_spread, tree), mesh),
        columns=evidence.columns,
        tree=tree,
        converged=converged,
        status=status,
        num_steps=num_steps,
        objective_trace=np.asarray(state.trace)[:num_steps],
        num_restarts=0 if key is None else config.num_restarts,
        restarts_agreeing=int(fitted.restarts_agreeing),
    )
    return join_lfs(result, pairs)
