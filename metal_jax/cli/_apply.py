"""`metal-jax apply`: labelling functions and items in, votes out."""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metal_jax._core.archives import save_arrays
from metal_jax.cli._common import (
    TREE_HELP,
    add_out_option,
    add_output_options,
    check_suffix,
    check_writable,
    plain_console,
    plain_table,
    positive,
    replaced,
    show,
)
from metal_jax.cli._items import read_objects
from metal_jax.cli._progress import quiet_progress

if TYPE_CHECKING:
    from metal_jax.labeling import AppliedVotes, ApplyProgress, LabelingFunction

_EPILOG = f"""{TREE_HELP}

LFS.py is a Python module, which is imported: every labelling function that stands in it, on its own
or in a list, in the order of the file, such as
  from metal_jax.labeling import keyword_lf
  goal = keyword_lf("goal", "topic", "sport", ["goal", "match"])
ITEMS.jsonl has a JSON object a line, which LFs see as a mapping; "item", if it is there, is its
name. The output is an .npz of L, lf_names and perhaps items, which `analyze` and `label` read.

With --cache, LFs that did not change do not run again. Without it, votes are kept in <out>.partial
while the command runs, so that one that was interrupted goes on where it was.

Examples:
  metal-jax apply lfs.py texts.jsonl --tree tree.json --out votes.npz --cache votes.cache
  metal-jax analyze votes.npz --tree tree.json
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "apply",
        help="run labelling functions on items: votes for analyze and label",
        description="Run the labelling functions of a Python file on items, and write their votes.",
        epilog=_EPILOG,
    )
    parser.add_argument("lfs", type=Path, metavar="LFS.py", help="module of labelling functions")
    parser.add_argument("items", type=Path, metavar="ITEMS.jsonl", help="items, one a line")
    parser.add_argument(
        "--tree", type=Path, required=True, metavar="FILE", help="task tree that LFs vote on (JSON)"
    )
    add_out_option(parser, "votes.npz")
    parser.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="processes that run LFs (default: 1)",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep votes here, for the next time"
    )
    parser.add_argument(
        "--on-error",
        choices=("raise", "abstain"),
        default="raise",
        help="stop where an LF fails, or count it and go on (default: raise)",
    )
    add_output_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    check_suffix(options.out, ".npz")
    check_writable(options.out, options.lfs, options.items, options.tree)
    from metal_jax import labeling, task_tree  # loads JAX

    tree = task_tree.read_json(options.tree)
    lfs = load_lfs(options.lfs)
    items, names = read_objects(options.items)
    cache, partial = options.cache, None
    if cache is None and all(map(_is_known, lfs)):
        cache = partial = options.out.with_name(f"{options.out.name}.partial")
    last: list[ApplyProgress] = []
    with quiet_progress(options) as say:

        def tell(progress: ApplyProgress) -> None:
            cached = not last or progress.num_calls == last[0].num_calls
            last[:] = [progress]
            say.count(
                "running the LFs",
                progress.num_items,
                len(items),
                below=errors_text(progress.num_errors),
                restart=cached,
            )

        try:
            applied = labeling.apply(
                lfs,
                items,
                tree,
                on_error=options.on_error,
                on_progress=tell,
                workers=options.workers,
                cache=cache,
                block_size=_block_size(len(items)),
            )
        except KeyboardInterrupt:
            if cache is None or not any(cache.rglob("*.npz")):
                raise
            raise KeyboardInterrupt(
                f"interrupted after {last[0].num_items:,} of {len(items):,} items; the votes that "
                f"are kept are in {cache}: run the same command again, and it goes on from there"
            ) from None
        except labeling.LabelingFunctionError as error:
            raise labeling.LabelingFunctionError(
                f"{error}; --on-error abstain counts it and goes on{_kept(cache, partial)}"
            ) from error
    arrays = {"L": applied.votes, "lf_names": np.asarray(applied.lf_names, str)}
    if tree.num_tasks == 1:
        arrays["k"] = np.asarray(tree.num_nodes)
    if names is not None:
        arrays["items"] = np.asarray(names, str)
    with replaced(options.out) as file:
        save_arrays(file, arrays)
    if partial is not None:
        shutil.rmtree(partial)
    about = _about(options, applied, last[-1])
    return show(options, about, _print)


def _kept(cache: Path | None, partial: Path | None) -> str:
    """What a failure leaves behind, as the end of a sentence."""
    if cache is not None and any(cache.rglob("*.npz")):
        return f"; the votes of the items before it are kept in {cache}"
    if partial is not None:
        shutil.rmtree(partial)
    return ""


def errors_text(num_errors: Mapping[str, int]) -> str:
    """The LFs with most errors, of those with any.

    Args:
        num_errors: LF name -> failures.

    Returns:
        Such as "errors: another 131, goal 2"; "" without any.
    """
    worst = sorted(num_errors.items(), key=lambda pair: -pair[1])
    named = [f"{name if len(name) <= 24 else name[:23] + '…'} {n:,}" for name, n in worst[:3]]
    if len(worst) > 3:
        named.append(f"{len(worst) - 3} other LFs {sum(n for _, n in worst[3:]):,}")
    return f"errors: {', '.join(named)}" if worst else ""


def _is_known(lf: LabelingFunction) -> bool:
    """Whether it can be told when an LF changes, without which its votes must not be kept."""
    from metal_jax import labeling

    try:
        labeling.lf_digest(lf)
    except ValueError:
        return False
    return True


def _block_size(num_items: int) -> int:
    """Items that are kept together: a power of two, so that some more items do not change it."""
    return min(max(2 ** ((num_items // 256).bit_length() - 1), 16), 1024) if num_items > 255 else 16


def load_lfs(path: Path) -> list[LabelingFunction]:
    """The labelling functions of a module, each once, in the order of the file."""
    from metal_jax.labeling import LabelingFunction

    if not path.is_file() or path.suffix != ".py" or not path.stem.isidentifier():
        raise ValueError(f"{path}: expected a Python file whose name is a module's, such as lfs.py")
    if path.stem in sys.stdlib_module_names or path.stem in sys.builtin_module_names:
        raise ValueError(f"{path}: Python has a module of that name; rename the file")
    sys.path.insert(0, str(path.parent.resolve()))  # where workers find it too
    sys.modules.pop(path.stem, None)
    importlib.invalidate_caches()
    # Byte code is kept by the second: a file that was just edited would be taken for the old one.
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        module = importlib.import_module(path.stem)
    except SystemExit as error:
        raise ValueError(
            f"{path}: it ends the program (SystemExit: {error}); expected a module of "
            "labelling functions that can be imported"
        ) from error
    except Exception as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
    finally:
        sys.dont_write_bytecode = kept
    found: dict[int, LabelingFunction] = {}
    for value in vars(module).values():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, LabelingFunction):
                found.setdefault(id(one), one)
    if not found:
        raise ValueError(f"{path}: there are no labelling functions in it")
    return list(found.values())


def _about(
    options: argparse.Namespace, applied: AppliedVotes, progress: ApplyProgress
) -> dict[str, Any]:
    voted = applied.votes >= 0
    return {
        "items": len(applied.votes),
        "covered_items": int(voted.any(axis=1).sum()),
        "seconds": progress.seconds,
        "items_per_second": progress.items_per_second,
        "calls": progress.num_calls,
        "cached_calls": progress.num_cached,
        "lfs": [
            {"name": name, "coverage": float(share), "errors": int(errors)}
            for name, share, errors in zip(
                applied.lf_names, voted.mean(axis=0), applied.num_errors, strict=True
            )
        ],
        "out": str(options.out),
    }


def _print(about: dict[str, Any]) -> None:
    console = plain_console()
    table = plain_table(["LF"], ["coverage", "errors"])
    for row in about["lfs"]:
        table.add_row(row["name"], f"{row['coverage']:.3f}", f"{row['errors']:,}")
    console.print(table)
    console.print(
        f"{about['items']:,} items in {about['seconds']:.1f} s "
        f"({about['items_per_second']:,.0f} items/s), {about['covered_items']:,} with a vote; "
        f"{about['calls']:,} calls of LFs, {about['cached_calls']:,} from the cache"
    )
    console.print(f"wrote {about['out']}")
