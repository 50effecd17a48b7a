"""What a tuning searches: distributions of settings, random draws, and the settings they stand for.

A setting has the name of its place in `FitConfig`, such as "optimiser.learning_rate" or, for the
weight of one task, "loss.task_weights." and the task's name; of its place in `NetworkConfig`, such
as "network.widths"; or of an argument of the function that builds the network, "build." and this.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np

from metal_jax._core.optimiser import TRACED_SETTINGS
from metal_jax.network._compiler.build import Network, build
from metal_jax.network._compiler.config import NetworkConfig
from metal_jax.network._training.fit import FitConfig
from metal_jax.task_tree import TaskTree

OPTIMISER = "optimiser."
TASK_WEIGHTS = "loss.task_weights."
DROPOUT = "network.dropout"
_NETWORK = "network."
_BUILD = "build."
# The budget is the tuning's own, and scores have to stay comparable.
_FIXED = tuple(
    f"training.{name}"
    for name in ("num_steps", "steps_per_chunk", "patience", "watch", "lower_is_better")
)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Numbers between two bounds, all alike.

    Attributes:
        low: lower bound.
        high: upper bound.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self, -math.inf)

    def quantile(self, share: float) -> float:
        """The number that a draw is below with this probability."""
        return self.low + share * (self.high - self.low)


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """Positive numbers between two bounds, their logarithms all alike.

    Attributes:
        low: lower bound, positive.
        high: upper bound.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self, 0)

    def quantile(self, share: float) -> float:
        """The number that a draw is below with this probability."""
        return self.low * (self.high / self.low) ** share


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values, all alike.

    Attributes:
        values: numbers, strings, None, or tuples of these; for other objects, choose among names
            and let the function that builds the network look them up.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise ValueError("values: got none, expected at least one")
        for value in self.values:
            try:
                json.dumps(value, allow_nan=False)
                hash(value)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"values: got {value!r}, expected numbers, strings, None, or tuples of these"
                ) from error

    def quantile(self, share: float) -> Any:
        """The value at this share of the list."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


Distribution: TypeAlias = Uniform | LogUniform | Choice

SearchSpace: TypeAlias = Mapping[str, Distribution]
"""Name of a setting -> what it is drawn from."""


def _check_bounds(bounds: Uniform | LogUniform, above: float) -> None:
    low, high = bounds.low, bounds.high
    if not (above < low < high < math.inf):
        kind = "positive, " if above == 0 else ""
        raise ValueError(f"got low={low}, high={high}, expected {kind}finite and low < high")


def is_traced(name: str, distribution: Distribution) -> bool:
    """Whether trials with different values of the setting share a compiled program."""
    known = name.startswith(TASK_WEIGHTS) or name == DROPOUT
    known = known or name in [OPTIMISER + field for field in TRACED_SETTINGS]
    numbers = not isinstance(distribution, Choice) or all(
        isinstance(value, int | float) for value in distribution.values
    )
    return known and numbers


def check_space(space: SearchSpace) -> None:
    """Raise ValueError unless this is a search space of settings that may be searched."""
    if not space:
        raise ValueError("space: got no settings, expected at least one")
    for name, distribution in space.items():
        if not isinstance(distribution, Distribution):
            raise ValueError(
                f"space: {name!r}: got {distribution!r}, expected Uniform, LogUniform or Choice"
            )
        if name in _FIXED:
            raise ValueError(f"space: {name!r} cannot be searched: it is the same for all trials")


def draw_settings(
    space: SearchSpace, num_trials: int, num_programs: int, key: jax.Array
) -> list[dict[str, Any]]:
    """Random settings of each trial.

    The draws of a setting depend on the key and its name alone. Those settings that a compiled
    program depends on are drawn `num_programs` times together (or, where there are no more
    combinations than that, all of these are taken), and the trials take the draws in turn.

    Args:
        space: checked by `check_space`.
        num_trials: how many.
        num_programs: see above.
        key: consumed.

    Returns:
        Name -> value for each trial, in the order of the space.
    """
    seed = np.asarray(jax.random.key_data(key)).tolist()

    def draw(name: str, num: int) -> list[Any]:
        shares = np.random.default_rng([*seed, zlib.crc32(name.encode())]).random(num)
        return [space[name].quantile(float(share)) for share in shares]

    static = [name for name in space if not is_traced(name, space[name])]
    choices = [d.values for d in (space[name] for name in static) if isinstance(d, Choice)]
    if len(choices) == len(static) and math.prod(map(len, choices)) <= num_programs:
        programs = list(itertools.product(*choices))
    else:
        programs = list(zip(*(draw(name, num_programs) for name in static), strict=True))
    columns = {name: draw(name, num_trials) for name in space if name not in static}
    for i, name in enumerate(static):
        columns[name] = [programs[trial % len(programs)][i] for trial in range(num_trials)]
    return [{name: columns[name][trial] for name in space} for trial in range(num_trials)]


def build_with(network: Network | Callable[..., Network], settings: Mapping[str, Any]) -> Network:
    """The network of these settings.

    Args:
        network: from `build`, or a function that returns one.
        settings: name -> value; those of the fit are left out.

    Returns:
        The network.

    Raises:
        ValueError: an unknown name, a value that the network does not take, or arguments for a
            network that is built already, or that the function does not take.
    """
    own = _under(_BUILD, settings)
    if isinstance(network, Network):
        if own:
            raise ValueError(
                f"space: {_BUILD + min(own)!r}: the network is built already, expected a function "
                "that builds it from such arguments"
            )
        built = network
    else:
        try:
            inspect.signature(network).bind(**own)
        except TypeError as error:
            raise ValueError(
                f"network: the function cannot be called with {sorted(own)}: {error}"
            ) from error
        built = network(**own)
    config = network_config_with(built.config, settings)
    if config == built.config:
        return built
    return build(built.tree, built.encoder, config, task_encoders=dict(built.task_encoders))


def network_config_with(config: NetworkConfig, settings: Mapping[str, Any]) -> NetworkConfig:
    """The settings of a network with those of a trial in their places.

    Args:
        config: the others.
        settings: name -> value; those of the fit and of the building function are left out.

    Returns:
        The settings.

    Raises:
        ValueError: an unknown name, or a value that the network does not take.
    """
    for field, value in _under(_NETWORK, settings).items():
        config = _replaced(config, _NETWORK + field, field.split("."), value)
    return config


def _under(prefix: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value
        for name, value in settings.items()
        if name.startswith(prefix)
    }


def fit_config_with(config: FitConfig, settings: Mapping[str, Any], tree: TaskTree) -> FitConfig:
    """The settings of a fit with those of a trial in their places.

    Args:
        config: the others.
        settings: name -> value; those of the network are left out.
        tree: whose tasks have the weights.

    Returns:
        The settings.

    Raises:
        ValueError: an unknown name or task, or a value that the settings do not take.
    """
    names = [task.name for task in tree.tasks]
    weights = _under(TASK_WEIGHTS, settings)
    for task in weights:
        if task not in names:
            name = TASK_WEIGHTS + task
            raise ValueError(f"space: {name!r}: got task {task!r}, expected one of {names}")
    for name, value in settings.items():
        if not name.startswith((TASK_WEIGHTS, _NETWORK, _BUILD)):
            config = _replaced(config, name, name.split("."), value)
    if weights:
        fixed = config.loss.task_weights or (1.0,) * len(names)
        together = tuple(weights.get(n, w) for n, w in zip(names, fixed, strict=True))
        config = _replaced(config, TASK_WEIGHTS + "*", ["loss", "task_weights"], together)
    return config


def _replaced(config: Any, name: str, path: list[str], value: Any) -> Any:
    """The settings with the one at a path replaced; `name` is what it is called in errors."""
    fields = [field.name for field in dataclasses.fields(config)]
    if path[0] not in fields:
        raise ValueError(f"space: {name!r}: got {path[0]!r}, expected one of {fields}")
    current = getattr(config, path[0])
    if dataclasses.is_dataclass(current) != bool(path[1:]):
        kind = "has no settings of its own" if path[1:] else "is a group of settings"
        raise ValueError(f"space: {name!r}: {path[0]!r} {kind}")
    if path[1:]:
        return dataclasses.replace(config, **{path[0]: _replaced(current, name, path[1:], value)})
    if type(current) is int and type(value) is not int:
        raise ValueError(f"space: {name!r}: got {value!r}, expected integers, in a Choice")
    try:
        return dataclasses.replace(config, **{path[0]: value})
    except (TypeError, ValueError) as error:
        raise ValueError(f"space: {name!r}: {error}") from error
