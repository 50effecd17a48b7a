"""A pool of processes that run labelling functions.

Functions travel to the workers as Python's multiprocessing sends them, by the name of a module's
attribute: never through a file, and only to processes of this program.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import importlib
import io
import multiprocessing
import multiprocessing.resource_tracker
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import numpy as np

from metal_jax.labeling._apply_blocks import Block, LabelingFunctionError, label_block
from metal_jax.labeling._functions import LabelingFunction, VoteResolver
from metal_jax.labeling._preprocess import Preprocessor
from metal_jax.task_tree import TaskTree

_AHEAD = 2  # blocks sent for each worker, so that none waits


class Job(NamedTuple):
    """A block and what is to be done with it.

    Attributes:
        block: the items.
        missing: numbers of the LFs that have to run.
        known: the votes of the others, by number.
    """

    block: Block
    missing: tuple[int, ...]
    known: dict[int, np.ndarray]


def run_in_pool(
    lfs: Sequence[LabelingFunction],
    tree: TaskTree,
    jobs: Iterable[Job],
    *,
    workers: int,
    raising: bool,
) -> Iterator[tuple[Job, np.ndarray]]:
    """Run jobs in processes and give their results in the order of the jobs.

    Jobs are read a few ahead of the results, so that they may come from a stream.

    Args:
        lfs: all labelling functions.
        tree: the task tree.
        jobs: the jobs.
        workers: how many processes.
        raising: see `label_block`.

    Yields:
        Each job and the votes of its missing LFs.

    Raises:
        ValueError: an LF cannot be sent; names it.
        LabelingFunctionError: as `label_block`.
        RuntimeError: a process ended by itself.
    """
    sent = [_sendable(lf) for lf in lfs]
    waiting: collections.deque[tuple[Job, concurrent.futures.Future[Any] | None]]
    waiting = collections.deque()
    # Never fork: JAX has threads, and a forked copy of their locks may hang.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start, (sent, tree))
    try:
        for job in jobs:
            bare = job.block._replace(digests=[])
            with _interrupts_held():  # the first job starts the processes
                future = pool.submit(_work, job.missing, bare, raising) if job.missing else None
            waiting.append((job, future))
            if len(waiting) > _AHEAD * workers:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that are started here are deaf to Ctrl-C until `_start` has told them what to do.

    While they import they would each print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # else it starts here, and lets them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _result(job: Job, future: concurrent.futures.Future[Any] | None) -> tuple[Job, np.ndarray]:
    if future is None:  # the cache knew it all
        return job, np.empty((len(job.block.items), 0), np.int32)
    here = f"items {job.block.rows[0]} to {job.block.rows[-1]}"
    try:
        votes, failure = future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"a worker process ended while {here} were labelled: it was killed, an LF ended it, "
            "or the program's main module starts the work when it is imported (guard it by "
            '`if __name__ == "__main__":`)'
        ) from error
    except Exception as error:
        raise RuntimeError(f"{here} could not be labelled in a worker process: {error}") from error
    if failure is not None:
        message, where = failure
        error = LabelingFunctionError(message)
        error.add_note(where)
        raise error
    return job, votes


# ---- what is sent -------------------------------------------------------------------------------


class _ByName(ForkingPickler):
    """Sends an LF or a preprocessor that a decorator made by its name.

    The decorator put it where its function was, so the function itself has no name any more.
    """

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, LabelingFunction | Preprocessor):
            module, name = (
                getattr(obj.function, key, "") for key in ("__module__", "__qualname__")
            )
            if _attribute(sys.modules.get(module), name) is obj:
                return _named, (module, name)
        return NotImplemented


def _attribute(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


def _named(module: str, name: str) -> Any:
    return _attribute(importlib.import_module(module), name)


def _sendable(lf: LabelingFunction) -> bytes:
    """The LF as it is sent; ValueError if it cannot be."""
    main = sys.modules["__main__"]
    interactive = getattr(main, "__file__", None) is None and main.__spec__ is None
    buffer = io.BytesIO()
    try:
        _ByName(buffer).dump(lf)
        if interactive and b"__main__" in buffer.getvalue():
            raise ValueError("it was written in an interactive session")
    except Exception as error:
        raise ValueError(
            f"LF {lf.name!r} cannot be sent to another process: {error}; with workers, functions "
            "must stand at the top level of a module, so no lambda and no function in a function"
        ) from error
    return buffer.getvalue()


# ---- in the worker ------------------------------------------------------------------------------

_sent: list[bytes] = []
_tree: TaskTree | None = None
_ready: dict[tuple[int, ...], tuple[list[LabelingFunction], VoteResolver]] = {}
_lfs: dict[int, LabelingFunction] = {}


def _start(sent: list[bytes], tree: TaskTree) -> None:
    """Keep what is needed; LFs are read by the first job, where a failure can be told."""
    global _tree
    _sent[:] = sent
    _tree = tree
    if hasattr(signal, "pthread_sigmask"):
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as of a job in the background
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends it without a word
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _work(
    missing: tuple[int, ...], block: Block, raising: bool
) -> tuple[np.ndarray | None, tuple[str, str] | None]:
    """The votes of a block, or what went wrong: exceptions do not always survive the way back."""
    assert _tree is not None
    try:
        if missing not in _ready:
            chosen = [_received(number) for number in missing]
            _ready[missing] = chosen, VoteResolver(chosen, _tree)
        lfs, resolver = _ready[missing]
        return label_block(lfs, resolver, block, raising=raising), None
    except LabelingFunctionError as error:
        return None, (str(error), traceback.format_exc())


def _received(number: int) -> LabelingFunction:
    if number not in _lfs:
        try:
            _lfs[number] = ForkingPickler.loads(_sent[number])  # pyright: ignore[reportAttributeAccessIssue]
        except Exception as error:
            raise LabelingFunctionError(
                f"LF number {number} could not be read in a worker process: "
                f"{type(error).__name__}: {error}"
            ) from error
    return _lfs[number]
