"""Small reports of every kind, and text that would like to be markup."""

import functools

import jax
import numpy as np

from metal_jax import exhaust, label_model, labeling, network, report
from metal_jax.task_tree import TaskTree

SCRIPT = "<script>document.title='run'</script>"
NASTY = (
    SCRIPT,
    '"><img src=x onerror="document.title=1">',
    "</script></style>",
    "a & b &lt; c",
    "\u2028line\u2029 \u202eright to left",
    "$x^2$ \x00\x1f",
)
TREE = TaskTree.from_dict({"topic": {SCRIPT: {"game": ["ball", NASTY[1]]}, "trade": None}})


def votes_of(num_items=120, seed=0):
    """Votes of six LFs on a tree of three leaves, and gold."""
    random = np.random.default_rng(seed)
    gold = random.choice(TREE.leaf_nodes, num_items)
    above = np.where(TREE.node_parent[gold] >= 0, TREE.node_parent[gold], gold)
    other = random.choice(TREE.leaf_nodes, (num_items, 6))
    votes = np.where(random.random((num_items, 6)) < 0.8, gold[:, None], other)
    votes[:, 0] = above
    votes[random.random(votes.shape) < 0.4] = -1
    votes[:, 5] = -1
    return votes, gold


@functools.cache
def fitted():
    """A fit, its votes, their gold and the posterior."""
    votes, gold = votes_of()
    result = label_model.fit_dawid_skene(votes, TREE)
    return result, votes, gold, np.asarray(label_model.posterior(result, votes), float)


@functools.cache
def label_page(**options):
    """A report of votes."""
    result, votes, gold, _ = fitted()
    texts = [f"{NASTY[i % len(NASTY)]} item {i}" for i in range(len(votes))]
    return report.label_model_report(
        result, votes, title=SCRIPT, lf_names=NASTY, texts=texts, gold=gold, **options
    )


def advised_page():
    """The same with what to do next, and marks in the texts; nothing is fitted again."""
    lfs = len(NASTY)
    share = np.linspace(0, 0.3, lfs)
    without = label_model.LeaveOneOut(share, share, np.arange(lfs), 0.8, 0.8 - share)
    pair = label_model.SuggestedDependency((0, 1), NASTY[:2], 43.2, 120, 44.1, 118, 40.0)
    result, votes, gold, _ = fitted()
    texts = [f"{NASTY[i % len(NASTY)]} item {i}" for i in range(len(votes))]
    spans = {i: [(0, labeling.Span(0, 6)), (1, labeling.Span(3, 12))] for i in range(len(votes))}
    return report.label_model_report(
        result,
        votes,
        title=SCRIPT,
        lf_names=NASTY,
        texts=texts,
        gold=gold,
        without=without,
        dependencies=[pair],
        num_next=4,
        spans=spans,
    )


def network_page():
    """A report of an untrained network."""
    votes, gold = votes_of()
    x = np.random.default_rng(0).normal(size=(len(votes), 3))
    inputs = network.fit_inputs("features", x)
    net = network.build(TREE, inputs.encoder, network.NetworkConfig((4,)))

    model = network.Model(TREE, inputs, net.init(jax.random.key(0), inputs.encode(x)), net.config)
    training = report.Training(
        [10, 20, 30],
        [0.9, 0.5, float("nan")],
        {"loss": [0.8, 0.6, 0.7], "accuracy": [0.5, 0.6, 0.6]},
        20,
        [("Encoder", "features")],
        "a drawing",
    )
    return report.network_report(
        model._replace(untrained_tasks=("game",)),
        training=training,
        predictions=network.predict(model, x),
        gold=gold,
        votes=votes,
        lf_names=NASTY,
    )


def runs_of(num_runs=12):
    """Recorded runs; the last one has no metrics."""
    rise = 1 - np.exp(-np.arange(1, 6))
    runs = []
    for i in range(num_runs):
        best = 0.5 + 0.03 * i
        metrics = {
            "train": {"loss": exhaust.curve(2 - rise)},
            "validation": {"accuracy": exhaust.curve(rise * best)},
        }
        net = (exhaust.Layer("Linear", {"out_features": 2 + i}),) * (1 + i % 3)
        runs.append(exhaust.Run(f"{NASTY[i % 6]} {i}", net, metrics, seconds=(1.0 + i,) * 5))
    return [*runs, exhaust.Run("unfinished", status="killed")]


def exhaust_page():
    """A report of runs with predictions and a search."""
    runs = runs_of()
    names = [run.run for run in runs]
    forecasts = []
    for target in ("validation/accuracy", "seconds"):
        true = exhaust.targets(runs, target)
        mean = np.nan_to_num(true, nan=1.0) * 1.1
        forecasts.append(report.Forecast(target, names, mean, 0.8 * mean, 1.2 * mean, true))
    chosen = exhaust.search(
        forecasts[0].mean, np.zeros(len(runs)), 3, seconds=forecasts[1].mean, seconds_limit=40
    )
    found = report.Search(
        "validation/accuracy", names, *forecasts[0][2:5], forecasts[1].mean, 40.0, chosen.chosen
    )
    return report.exhaust_report(runs, forecasts=forecasts, search=found)
