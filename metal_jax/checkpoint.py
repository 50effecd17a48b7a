"""Saving and loading parameters; the only file that imports Orbax.

Any pytree of arrays goes in: a label model's `params`, a network's `params`, optimiser states,
typed PRNG keys. What is static (the task tree, the columns, a config) is the caller's to keep, for
example with `task_tree.write_json`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax
from orbax.checkpoint import v1 as ocp

Tree = TypeVar("Tree")


def save(path: str | os.PathLike[str], params: Any, *, overwrite: bool = False) -> None:
    """Write a pytree of arrays to a folder; readers never see half of it.

    Args:
        path: the folder to make.
        params: a pytree of arrays, NamedTuples included.
        overwrite: replace what is there, once the new checkpoint is complete.

    Raises:
        ValueError: the folder exists and `overwrite` is off.
    """
    target = Path(path).absolute()
    if target.exists() and not overwrite:
        raise ValueError(f"{target} exists; pass overwrite=True to replace it")
    fresh = target.with_name(target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    ocp.save(str(fresh), params)
    if target.exists():
        old = target.with_name(target.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old)
    else:
        fresh.rename(target)


def load(path: str | os.PathLike[str], like: Tree) -> Tree:
    """Read what `save` wrote.

    Args:
        path: the folder.
        like: a pytree of the same structure, shapes and dtypes: arrays, or `jax.eval_shape`'s
            result. Values are not looked at.

    Returns:
        The saved values in the structure of `like`, on the default device.

    Raises:
        ValueError: no checkpoint there, or one of another structure or shape.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(folder + "/params", {"w": jnp.arange(3.0)})
        ...     load(folder + "/params", {"w": jnp.zeros(3)})["w"].tolist()
        [0.0, 1.0, 2.0]
    """
    source = Path(path).absolute()
    if not source.is_dir():
        raise ValueError(f"{source}: no checkpoint there")
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like
    )
    saved, wanted = _shapes(ocp.metadata(str(source)).metadata), _shapes(like)
    for name in sorted(wanted.keys() | saved.keys()):
        if wanted.get(name) != saved.get(name):
            raise ValueError(
                f"{source}: {name}: saved {saved.get(name, 'nothing')}, "
                f"expected {wanted.get(name, 'nothing')}"
            )
    return ocp.load(str(source), abstract)


def _shapes(tree: Any) -> dict[str, str]:
    """Name of each leaf -> its dtype and shape."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{x.dtype}{list(x.shape)}"
        for path, x in leaves
    }
