"""Compiled functions in one file, called anywhere that has JAX: without this library.

A function is lowered once for several platforms with a symbolic number of items, and serialised by
`jax.export` (StableHLO; JAX promises to read it for six months after, and newer versions do so for
longer). The file is all that a server needs:

.. code-block:: python

    from pathlib import Path
    import jax, numpy as np

    model = jax.export.deserialize(Path("model.bin").read_bytes())
    probs = model.call(np.array([[0, -1, 1]], np.int32))

`model.bin.json` beside it says what goes in and out, and what the columns of the result stand for.
Parameters are constants of the program. Arguments and results are arrays, or dicts, lists and
tuples of arrays: NamedTuples become dicts, so that the reader need not know their classes. Needs
the extra `export` (flatbuffers).

Legend: `n` items.
"""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.export import Exported

from metal_jax._core.files import replaced
from metal_jax.label_model import FitResult, posterior_function
from metal_jax.network import Model, example_inputs, predict_function
from metal_jax.task_tree import TaskTree

__all__ = [
    "PLATFORMS",
    "Cost",
    "cost",
    "describe",
    "load",
    "lower",
    "lower_label_model",
    "lower_network",
    "save",
]

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""What functions are lowered for unless said otherwise."""

_NEEDS = "exported functions need flatbuffers: pip install 'metal-jax[export]'"


class Cost(NamedTuple):
    """What one call of an exported function costs, by XLA's own account on the default device.

    Attributes:
        platform: of the device that it was compiled for.
        num_items: n.
        flops: floating-point operations; XLA counts the body of a loop once.
        bytes_accessed: read and written by all operations; likewise.
        argument_bytes: of the arguments.
        output_bytes: of the results.
        temporary_bytes: of memory in between.
        program_bytes: of the compiled program; 0 where the platform does not say.
    """

    platform: str
    num_items: int
    flops: float
    bytes_accessed: float
    argument_bytes: int
    output_bytes: int
    temporary_bytes: int
    program_bytes: int


def lower(
    function: Callable[..., Any],
    *arguments: Any,
    items: bool | Sequence[bool] = True,
    platforms: Sequence[str] = PLATFORMS,
) -> Exported:
    """Lower a function, for example a kernel of this library, for several platforms.

    Args:
        function: pure; of arrays or of dicts, lists, tuples and NamedTuples of arrays.
        arguments: examples: arrays or `jax.ShapeDtypeStruct`s. Values are not looked at.
        items: whether the leading axis of an argument's arrays counts items, for all arguments or
            for each: there the lowered function takes any number n of them, the same everywhere.
        platforms: of "cpu", "cuda", "rocm" and "tpu".

    Returns:
        The lowered function; `call` it, or `save` it.

    Raises:
        ValueError: an unknown platform, or as many `items` as there are no arguments.

    Example:
        >>> doubled = lower(lambda x: 2 * x, jnp.ones((1, 3)), platforms=["cpu", "tpu"])
        >>> doubled.platforms, doubled.in_avals
        (('cpu', 'tpu'), (ShapedArray(float32[n,3]),))
        >>> doubled.call(jnp.ones((2, 3))).shape
        (2, 3)
    """
    unknown = [name for name in platforms if name not in PLATFORMS]
    if unknown or not platforms:
        raise ValueError(f"platforms: got {list(platforms)}, expected some of {list(PLATFORMS)}")
    counted = [items] * len(arguments) if isinstance(items, bool) else list(items)
    if len(counted) != len(arguments):
        raise ValueError(f"items: got {len(counted)} values, expected {len(arguments)}")
    (n,) = jax.export.symbolic_shape("n")

    def shape_of(has_items: bool, x: Any) -> jax.ShapeDtypeStruct:
        shape = np.shape(x)
        return jax.ShapeDtypeStruct((n, *shape[1:]) if has_items else shape, jnp.result_type(x))

    shapes = [
        jax.tree.map(functools.partial(shape_of, has_items), _plain(argument))
        for has_items, argument in zip(counted, arguments, strict=True)
    ]

    def called(*plain: Any) -> Any:
        return _plain(function(*map(_like, arguments, plain)))

    called.__name__ = getattr(function, "__name__", "function")
    return jax.export.export(jax.jit(called), platforms=list(platforms))(*shapes)


def lower_label_model(
    result: FitResult, *, dtype: str = "int32", platforms: Sequence[str] = PLATFORMS
) -> Exported:
    """The posterior of a label model: votes [n, m] -> float[n, s].

    Args:
        result: a fit; see `label_model.posterior_function`.
        dtype: integers that the votes come in.
        platforms: see `lower`.

    Returns:
        The lowered function.

    Raises:
        ValueError: as `lower` and `posterior_function`.

    Example:
        >>> from metal_jax.label_model import fit
        >>> votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 10)
        >>> exported = lower_label_model(fit(votes, TaskTree.single(2)), platforms=["cpu"])
        >>> exported.call(votes[:4].astype(np.int32)).argmax(1).tolist()
        [0, 1, 0, 1]
    """
    votes = jax.ShapeDtypeStruct((1, result.columns.num_lfs), np.dtype(dtype))
    return lower(posterior_function(result), votes, platforms=platforms)


def lower_network(model: Model, *, platforms: Sequence[str] = PLATFORMS) -> Exported:
    """What a network predicts: arrays of n items -> a dict of the fields of `Predictions`.

    Args:
        model: trained, perhaps from `network.load_model`. One that reads vectors takes the raw
            numbers float32[n, d]; one that reads texts the arrays of `model.inputs.encode`, as a
            dict, since turning texts into arrays is no work for a compiled program.
        platforms: see `lower`.

    Returns:
        The lowered function.

    Raises:
        ValueError: as `lower`.

    Example:
        >>> from metal_jax.network import build, fit_inputs
        >>> inputs = fit_inputs("features", [[0.0], [1.0]])
        >>> tree = TaskTree.single(["cat", "dog"])
        >>> params = build(tree, inputs.encoder).init(jax.random.key(0), inputs.encode([[0.0]]))
        >>> model = Model(tree, inputs, params)
        >>> lower_network(model, platforms=["cpu"]).platforms
        ('cpu',)
    """
    return lower(predict_function(model), example_inputs(model), platforms=platforms)


def describe(exported: Exported, tree: TaskTree | None = None) -> dict[str, Any]:
    """What goes in and out of a lowered function, as plain JSON.

    Args:
        exported: from one of the functions above.
        tree: the task tree whose leaves and nodes are columns of the results, if any.

    Returns:
        Names, types, platforms and versions.

    Example:
        >>> exported = lower(jnp.sin, jnp.zeros(2))
        >>> describe(exported)["platforms"]
        ['cpu', 'cuda', 'rocm', 'tpu']
    """
    arguments, _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    results = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    about: dict[str, Any] = {
        "function": exported.fun_name,
        "arguments": [jax.tree.map(_type, argument) for argument in arguments],
        "results": jax.tree.map(_type, results),
        "platforms": list(exported.platforms),
        "jax": jax.__version__,
        "calling_convention": exported.calling_convention_version,
    }
    if tree is not None:
        names = ["=".join(name) for name in tree.node_names]
        about["task_tree"] = tree.to_dict()
        about["leaf_names"] = [names[node] for node in tree.leaf_nodes]
        about["node_names"] = names
    return about


def save(
    path: str | os.PathLike[str], exported: Exported, about: Mapping[str, Any] | None = None
) -> int:
    """Write a lowered function, and beside it a `.json` that describes it.

    A checksum follows the function in the file; `jax.export.deserialize` passes it over.

    Args:
        path: the file; replaced in one step if it is there.
        exported: from one of the functions above.
        about: plain JSON; by default `describe(exported)`.

    Returns:
        The size of the file in bytes.

    Raises:
        ValueError: flatbuffers is not installed, or `about` is not plain JSON.

    Example:
        >>> import tempfile
        >>> exported = lower(jnp.sin, jnp.zeros(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = save(f"{folder}/sin.bin", exported)
        ...     round(float(load(f"{folder}/sin.bin").call(jnp.ones(2))[0]), 2)
        0.84
    """
    target = Path(path)
    try:
        text = json.dumps(describe(exported) if about is None else dict(about), indent=1)
        content = bytes(exported.serialize())
    except ImportError as error:
        raise ValueError(f"{_NEEDS} ({error})") from None
    except TypeError as error:
        raise ValueError(f"about: expected plain JSON: {error}") from None
    content += _checksum(content)
    with replaced(target) as file:
        file.write(content)
    with replaced(target.with_name(target.name + ".json")) as file:
        file.write(text.encode() + b"\n")
    return len(content)


def load(path: str | os.PathLike[str]) -> Exported:
    """Read what `save` wrote; the module's text shows how to do so without this library.

    Args:
        path: the file.

    Returns:
        The lowered function.

    Raises:
        ValueError: the file is no such function, is damaged, or of a JAX that this one cannot read.

    Example:
        >>> import tempfile
        >>> exported = lower(jnp.sin, jnp.zeros(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = save(f"{folder}/sin.bin", exported)
        ...     round(float(load(f"{folder}/sin.bin").call(jnp.ones(2))[0]), 2)
        0.84
    """
    content = Path(path).read_bytes()
    content, checksum = content[:-_CHECKSUM_SIZE], content[-_CHECKSUM_SIZE:]
    if checksum != _checksum(content):
        raise ValueError(f"{path}: no exported function, or damaged")
    try:
        return jax.export.deserialize(bytearray(content))
    except ImportError as error:
        raise ValueError(f"{_NEEDS} ({error})") from None
    except Exception as error:  # flatbuffers says in many ways that bytes are no artefact
        raise ValueError(f"{path}: no exported function ({type(error).__name__})") from None


_CHECKSUM_SIZE = 24


def _checksum(content: bytes) -> bytes:
    return b"metal_jax crc32 %08x" % zlib.crc32(content)


def cost(exported: Exported, num_items: int) -> Cost:
    """Compile a lowered function for the default device and read off what a call costs.

    Args:
        exported: from one of the functions above, for a platform of the default device too.
        num_items: n.

    Returns:
        See `Cost`.

    Example:
        >>> product = lower(lambda x: x @ x.T, jnp.ones((1, 3)))
        >>> found = cost(product, 10)
        >>> found.flops >= 2 * 10 * 10 * 3, found.argument_bytes, found.output_bytes
        (True, 120, 400)
    """

    def concrete(aval: Any) -> jax.ShapeDtypeStruct:
        shape = [size if isinstance(size, int) else num_items for size in aval.shape]
        return jax.ShapeDtypeStruct(shape, aval.dtype)

    arguments, _ = jax.tree.unflatten(exported.in_tree, map(concrete, exported.in_avals))
    compiled = jax.jit(exported.call).lower(*arguments).compile()
    counted: Any = compiled.cost_analysis() or {}
    memory: Any = compiled.memory_analysis()
    return Cost(
        jax.devices()[0].platform,
        num_items,
        float(counted.get("flops", 0)),
        float(counted.get("bytes accessed", 0)),
        int(memory.argument_size_in_bytes),
        int(memory.output_size_in_bytes),
        int(memory.temp_size_in_bytes),
        int(memory.generated_code_size_in_bytes),
    )


def _plain(tree: Any) -> Any:
    """NamedTuples as dicts, all the way down."""
    if isinstance(tree, tuple) and hasattr(tree, "_asdict"):
        return {name: _plain(x) for name, x in zip(tree._fields, tree, strict=True)}  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(tree, dict):
        return {name: _plain(x) for name, x in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(map(_plain, tree))
    return tree


def _like(example: Any, plain: Any) -> Any:
    """The inverse of `_plain`, in the form of an example."""
    if isinstance(example, tuple) and hasattr(example, "_asdict"):
        fields = example._asdict()  # pyright: ignore[reportAttributeAccessIssue]
        return type(example)(**{name: _like(x, plain[name]) for name, x in fields.items()})
    if isinstance(example, dict):
        return {name: _like(x, plain[name]) for name, x in example.items()}
    if isinstance(example, list | tuple):
        return type(example)(map(_like, example, plain))
    return plain


def _type(aval: Any) -> str:
    return f"{aval.dtype}[{', '.join(map(str, aval.shape))}]"
