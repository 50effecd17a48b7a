"""A trained network with all that predicting raw items takes, in memory and on disk.

On disk it is one checkpoint: parameters through Orbax, everything else as JSON beside them; no
pickle, and readers never see half of it.

Legend: `n` items, `N` label nodes, `s` leaf states, `t` tasks.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax import checkpoint
from metal_jax.network._compiler.build import Network, build
from metal_jax.network._compiler.config import NetworkConfig, TaskConfig
from metal_jax.network._encoders.input_maps import (
    FeatureInputs,
    InputMap,
    inputs_from_json,
    inputs_to_json,
)
from metal_jax.network._evaluation.evaluate import Evaluation, evaluate_predictions
from metal_jax.network._evaluation.gold import gold_by_root
from metal_jax.network._evaluation.temperature import scale_temperatures
from metal_jax.network._training.task_balance import STATE
from metal_jax.task_tree import TaskTree, path_sum

_FORMAT = "metal_jax.network"
_SCHEMA = 1


class Model(NamedTuple):
    """A trained network that reads raw items.

    Attributes:
        tree: the task tree.
        inputs: raw items to arrays, from `fit_inputs`.
        params: of `build(tree, inputs.encoder, config)`.
        config: shape of the network.
        temperatures: t numbers that a task's logits are divided by, where it was calibrated.
        untrained_tasks: names of tasks that had no label to learn from; what is predicted for them
            means nothing.
    """

    tree: TaskTree
    inputs: InputMap
    params: Any
    config: NetworkConfig = NetworkConfig()
    temperatures: tuple[float, ...] | None = None
    untrained_tasks: tuple[str, ...] = ()

    @property
    def network(self) -> Network:
        """The compiled network."""
        return build(self.tree, self.inputs.encoder, self.config)


class Predictions(NamedTuple):
    """What a model says of n items.

    Attributes:
        leaf_probs: float32[n, s], sums to one over the leaves of each root.
        node_probs: float32[n, N], probability that the item's path goes through each node.
        log_conditionals: float32[n, N], `log P(label | parent label)`.
    """

    leaf_probs: np.ndarray | jax.Array
    node_probs: np.ndarray | jax.Array
    log_conditionals: np.ndarray | jax.Array


def predict(model: Model, items: Any, *, batch_size: int = 512) -> Predictions:
    """Predict raw items.

    Args:
        model: trained, perhaps from `load_model`.
        items: n strings or float[n, d], as the model was trained on.
        batch_size: items that are encoded and predicted at once; fewer items are padded to it, so
            that one compiled program serves all calls.

    Returns:
        Probabilities on the host.

    Raises:
        ValueError: items of another kind or width, or a number that is not finite (names the item).

    Example:
        >>> from metal_jax.network import fit_inputs
        >>> tree = TaskTree.single(["spam", "ham"])
        >>> inputs = fit_inputs("features", [[0.0, 1.0], [2.0, 3.0]])
        >>> network = build(tree, inputs.encoder)
        >>> params = network.init(jax.random.key(0), inputs.encode([[0.0, 1.0]]))
        >>> predict(Model(tree, inputs, params), [[1.0, 1.0], [0.0, 3.0]]).leaf_probs.shape
        (2, 2)
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected at least 1")
    if model.inputs.reads == "vectors":
        items = model.inputs.encode(items)  # all at once: an error names the row of the whole
    network, batches = model.network, []
    for start in range(0, len(items), batch_size):
        batch = items[start : start + batch_size]
        inputs = batch if model.inputs.reads == "vectors" else model.inputs.encode(batch)
        inputs = jax.tree.map(functools.partial(_padded, size=batch_size), inputs)
        found = _predict(network, model.params, inputs, model.temperatures)
        batches.append([np.asarray(part)[: len(batch)] for part in found])
    empty = [np.zeros((0, model.tree.num_nodes), np.float32)] * 2
    node_probs, log_conditionals = (
        np.concatenate(parts, dtype=np.float32) for parts in zip(empty, *batches, strict=True)
    )
    return Predictions(node_probs[:, model.tree.leaf_nodes], node_probs, log_conditionals)


def predict_function(model: Model) -> Callable[[Any], Predictions]:
    """What `predict` computes, as a pure function of arrays: to jit, export or shard.

    Args:
        model: trained; its parameters are constants of the function.

    Returns:
        A function of n items: for texts the arrays of `model.inputs.encode`, for vectors the raw
        numbers float[n, d]. It returns arrays on the device.

    Example:
        >>> from metal_jax.network import fit_inputs
        >>> tree = TaskTree.single(["spam", "ham"])
        >>> inputs = fit_inputs("features", [[0.0, 1.0], [2.0, 3.0]])
        >>> network = build(tree, inputs.encoder)
        >>> params = network.init(jax.random.key(0), inputs.encode([[0.0, 1.0]]))
        >>> function = predict_function(Model(tree, inputs, params))
        >>> jax.jit(function)(np.ones((3, 2), np.float32)).leaf_probs.shape
        (3, 2)
    """
    network, inputs = model.network, model.inputs

    def function(arrays: Any) -> Predictions:
        if isinstance(inputs, FeatureInputs):
            mean, scale = (jnp.asarray(x, jnp.float32) for x in inputs.standardisation)
            arrays = (jnp.asarray(arrays, jnp.float32) - mean) / scale
        node_probs, given_parent = _predict(network, model.params, arrays, model.temperatures)
        return Predictions(node_probs[:, model.tree.leaf_nodes], node_probs, given_parent)

    return function


def _padded(array: Any, size: int) -> np.ndarray:
    array = np.asarray(array)
    return np.pad(array, ((0, size - len(array)), *[(0, 0)] * (array.ndim - 1)))


@functools.partial(jax.jit, static_argnums=(0, 3))
def _predict(
    network: Network, params: Any, inputs: Any, temperatures: tuple[float, ...] | None
) -> tuple[jax.Array, jax.Array]:
    """Probabilities of nodes and conditional log-probabilities, float[b, N] each."""
    log_conditionals = network.apply(params, inputs)
    if temperatures is not None:
        log_conditionals = scale_temperatures(
            network.tree, log_conditionals, np.asarray(temperatures)
        )
    return jnp.exp(path_sum(network.tree, log_conditionals)), log_conditionals


def evaluate_model(model: Model, predictions: Predictions, gold: ArrayLike) -> Evaluation:
    """Judge what `predict` said of n items.

    Args:
        model: that predicted.
        predictions: of `predict`.
        gold: int[n] node ids, the deepest known node of each item, -1 unknown; or int[n, g], at
            most one for each root.

    Returns:
        As `evaluate`.

    Raises:
        ValueError: gold of the wrong shape or type, or no node of the tree (names the item).

    Example:
        >>> from metal_jax.network import build, fit_inputs
        >>> inputs = fit_inputs("features", [[0.0], [1.0]])
        >>> tree = TaskTree.single(["cat", "dog"])
        >>> params = build(tree, inputs.encoder).init(jax.random.key(0), inputs.encode([[0.0]]))
        >>> model = Model(tree, inputs, params)
        >>> evaluate_model(model, predict(model, [[0.0], [1.0]]), [0, 1]).path.num_items.tolist()
        2
    """
    nodes = gold_by_root(gold, model.tree, len(predictions.leaf_probs))
    return _evaluate(model.tree, predictions.log_conditionals, nodes)


_evaluate = jax.jit(evaluate_predictions, static_argnums=0)


def save_model(folder: str | os.PathLike[str], model: Model) -> None:
    """Write a model to a folder of its own; readers never see half of it.

    Args:
        folder: the folder to make; a model that is there is replaced.
        model: trained. What the loss keeps in the parameters (`params["loss"]`) is left out.

    Raises:
        ValueError: the folder holds something else, or the parameters are not those of the
            network (names what differs).

    Example:
        >>> from metal_jax.network import build, fit_inputs
        >>> inputs = fit_inputs("features", [[0.0], [1.0]])
        >>> tree = TaskTree.single(["cat", "dog"])
        >>> params = build(tree, inputs.encoder).init(jax.random.key(0), inputs.encode([[0.0]]))
        >>> model = Model(tree, inputs, params)
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(f"{folder}/pets", model)
        ...     load_model(f"{folder}/pets").tree.tasks[0].labels
        ('cat', 'dog')
    """
    path = Path(folder)
    if path.exists() and not (path.is_dir() and (_is_model(path) or not any(path.iterdir()))):
        raise ValueError(f"{path}: there is something else than a model; give another folder")
    params = {name: value for name, value in model.params.items() if name != STATE}
    difference = checkpoint.difference(params, _shapes(model))
    if difference:
        raise ValueError(f"params: {difference}")
    if model.temperatures is not None:
        _check_temperatures(model.temperatures, model.tree)
    record = {
        "format": _FORMAT,
        "schema": _SCHEMA,
        "task_tree": model.tree.to_dict(),
        "network": dataclasses.asdict(model.config),
        "inputs": inputs_to_json(model.inputs),
        "temperatures": model.temperatures,
        "untrained_tasks": model.untrained_tasks,
    }
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, params, record, overwrite=True)


def load_model(folder: str | os.PathLike[str], tree: TaskTree | None = None) -> Model:
    """Read what `save_model` wrote.

    Args:
        folder: the folder.
        tree: the task tree that the model must have; None for any.

    Returns:
        The model; on the same machine it predicts the same, bit for bit.

    Raises:
        ValueError: there is no model, or one of another schema or task tree, or its parameters do
            not fit its network (names what differs).

    Example:
        >>> from metal_jax.network import build, fit_inputs
        >>> inputs = fit_inputs("features", [[0.0], [1.0]])
        >>> tree = TaskTree.single(["cat", "dog"])
        >>> params = build(tree, inputs.encoder).init(jax.random.key(0), inputs.encode([[0.0]]))
        >>> model = Model(tree, inputs, params)
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(f"{folder}/pets", model)
        ...     load_model(f"{folder}/pets", tree).tree == tree
        True
    """
    path = Path(folder)
    record = _record(path)
    if record.get("format") != _FORMAT:
        raise ValueError(f"{path}: a checkpoint, but not a model of a network")
    if record.get("schema") != _SCHEMA:
        raise ValueError(f"{path}: got schema {record.get('schema')!r}, expected {_SCHEMA}")
    try:
        saved = TaskTree.from_dict(record["task_tree"])
        temperatures = record["temperatures"]
        if temperatures is not None:
            temperatures = tuple(temperatures)
            _check_temperatures(temperatures, saved)
        inputs = inputs_from_json(record["inputs"])
        config, untrained = _network_config(record["network"]), tuple(record["untrained_tasks"])
        model = Model(saved, inputs, None, config, temperatures, untrained)
        like = _shapes(model)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: the model's record is damaged: {error!r}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if tree is not None and tree != saved:
        raise ValueError(
            f"{path}: the model is of another task tree: {_tree_difference(saved, tree)}"
        )
    return model._replace(params=checkpoint.load(path, like))


def _record(path: Path) -> dict[str, Any]:
    try:
        return checkpoint.load_metadata(path)
    except Exception as error:  # Orbax says in many ways that a folder is no checkpoint
        why = "" if isinstance(error, ValueError) else f" ({type(error).__name__})"
        raise ValueError(f"{path}: no model of a network there{why}") from None


def _is_model(path: Path) -> bool:
    try:
        return _record(path).get("format") == _FORMAT
    except ValueError:
        return False


def _network_config(record: Mapping[str, Any]) -> NetworkConfig:
    tasks = {name: TaskConfig(**settings) for name, settings in record["tasks"]}
    return NetworkConfig(**{**record, "widths": tuple(record["widths"]), "tasks": tasks})


def example_inputs(model: Model) -> Any:
    """The arrays of one item, as the model's network and `predict_function` take them.

    Args:
        model: only its input map is looked at.

    Returns:
        Arrays on the host with a leading axis of 1.

    Example:
        >>> from metal_jax.network import fit_inputs
        >>> inputs = fit_inputs("features", [[0.0, 1.0], [1.0, 3.0]])
        >>> example_inputs(Model(TaskTree.single(2), inputs, {})).shape
        (1, 2)
    """
    inputs: Any = model.inputs
    if inputs.reads == "texts":
        return inputs.encode([""])
    size = inputs.size if inputs.kind == "embeddings" else len(inputs.standardisation.mean)
    return inputs.encode(np.zeros((1, size)))


def _shapes(model: Model) -> Any:
    """Shapes and types of the parameters."""
    return jax.eval_shape(model.network.init, jax.random.key(0), example_inputs(model))


def _check_temperatures(temperatures: tuple[float, ...], tree: TaskTree) -> None:
    given = np.asarray(temperatures)
    if given.shape != (tree.num_tasks,) or not ((given > 0) & np.isfinite(given)).all():
        raise ValueError(
            f"temperatures: got {temperatures}, expected {tree.num_tasks} positive numbers, a "
            "task each"
        )


def _tree_difference(saved: TaskTree, expected: TaskTree) -> str:
    """The first task that differs."""
    trees = [{task.name: task for task in tree.tasks} for tree in (saved, expected)]
    for name in dict.fromkeys([*trees[1], *trees[0]]):
        one, other = (tasks.get(name) for tasks in trees)
        if one != other:
            return f"task {name!r}: saved {_describe(one)}, expected {_describe(other)}"
    names = [list(tasks) for tasks in trees]
    return f"tasks in the order {names[0]}, expected {names[1]}"


def _describe(task: Any) -> str:
    if task is None:
        return "nothing"
    above = "" if task.parent is None else " under " + "=".join(task.parent)
    return f"labels {list(task.labels)}{above}"
