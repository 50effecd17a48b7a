"""`metal-jax export`: a trained network in one file that needs JAX alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metal_jax.cli._common import (
    add_out_option,
    add_output_options,
    check_writable,
    plain_console,
    show,
)
from metal_jax.cli._progress import quiet_progress

if TYPE_CHECKING:
    from jax.export import Exported

    from metal_jax.task_tree import TaskTree

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
_EPILOG = """
FILE takes any number of items on any of the platforms, and is called without metal_jax:

  model = jax.export.deserialize(bytearray(pathlib.Path(FILE).read_bytes()))
  model.call(inputs)

FILE.json says what goes in and out. `metal-jax label ... --export FILE` does the same for a label
model. Needs flatbuffers (pip install 'metal-jax[export]').

Example:
  metal-jax export model --out network.bin --platforms cpu,tpu
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "export",
        help="a trained network as one file that needs JAX alone",
        description="Lower a network that metal-jax train wrote, and save the compiled function.",
        epilog=_EPILOG,
    )
    parser.add_argument("model", type=Path, metavar="DIR", help="what train wrote")
    add_out_option(parser, "network.bin")
    parser.add_argument(
        "--platforms",
        type=lambda text: tuple(text.split(",")),
        default=_PLATFORMS,
        metavar="A,B",
        help=f"what it can run on (default: {','.join(_PLATFORMS)})",
    )
    parser.add_argument(
        "--cost-items",
        type=int,
        default=1000,
        metavar="N",
        help="items of the call whose cost is shown (default: 1000)",
    )
    add_output_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    check_writable(options.out)
    if options.cost_items < 1:
        raise ValueError(f"--cost-items: got {options.cost_items}, expected at least 1")
    from metal_jax import export, network

    with quiet_progress(options) as say:
        say("loading the model")
        model = network.load_model(model_folder(options.model))
        say("lowering")
        exported = export.lower_network(model, platforms=options.platforms)
        about = write_exported(options.out, exported, model.tree, options.cost_items)
    return show(options, about, _print)


def _print(about: dict[str, Any]) -> None:
    plain_console().print("\n".join(summary(about)))


def model_folder(folder: Path) -> Path:
    """Where train put the model in its folder."""
    inside = (folder / "model").is_dir() or (folder / "checkpoints").is_dir()
    return folder / "model" if inside else folder


def write_exported(path: Path, exported: Exported, tree: TaskTree, num_items: int) -> dict:
    """Write a lowered function; what is said about it, with its cost if it runs here."""
    import jax

    from metal_jax import export

    size = export.save(path, exported, export.describe(exported, tree))
    about = {"out": str(path), "bytes": size, "platforms": list(exported.platforms)}
    if jax.default_backend() in exported.platforms:
        about["cost"] = export.cost(exported, num_items)._asdict()
    return about


def summary(about: dict[str, Any]) -> Sequence[str]:
    """Lines for people."""
    lines = [f"wrote {about['out']}: {about['bytes']:,} bytes for {', '.join(about['platforms'])}"]
    if "cost" in about:
        cost = about["cost"]
        lines.append(
            f"a call with {cost['num_items']:,} items on {cost['platform']}: "
            f"{cost['flops']:.3g} operations, {cost['bytes_accessed']:.3g} bytes moved, "
            f"{cost['temporary_bytes']:,} bytes of memory beside arguments and results"
        )
    return lines
