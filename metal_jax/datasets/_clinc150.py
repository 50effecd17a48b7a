"""Reader for CLINC150: what people say to an assistant, ten domains and 150 intents."""

from os import PathLike
from pathlib import Path

import numpy as np

from metal_jax.datasets._dataset import TextDataset
from metal_jax.datasets._json_files import arrange_splits, entry, read_json, read_lines
from metal_jax.task_tree import TaskTree

_FILES = {"train": "train.jsonl", "valid": "val.jsonl", "test": "test.jsonl"}


def load_clinc150(folder: str | PathLike[str], *, small_size: int = 800) -> TextDataset:
    r"""Read the CLINC150 requests to an assistant: ten domains, fifteen intents in each.

    The root task is "domain"; the task beneath a domain bears the domain's name, and its labels are
    the intents. Requests of train whose text is also in test are dropped; test stays as it is. The
    requests that belong to no intent are not read. Source: Larson et al. (2019, "An evaluation
    dataset for intent classification and out-of-scope prediction").

    Args:
        folder: holds ``domains.json`` ("domains": domain -> its intents) and ``train.jsonl``,
            ``val.jsonl`` and ``test.jsonl`` (one object a line with "text", "intent", "domain").
        small_size: number of train items in the hand-labelled set "small"; the order of its items
            is fixed, so a smaller set is the beginning of a larger one. The other train items
            are the split "train".

    Returns:
        The data set.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not as described; the message names it.

    Example:
        >>> import json, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     domains = {"domains": {"travel": ["book_flight", "carry_on"]}}
        ...     _ = pathlib.Path(folder, "domains.json").write_text(json.dumps(domains))
        ...     for split in ("train", "val", "test"):
        ...         row = {"text": f"a flight, {split}", "intent": "carry_on", "domain": "travel"}
        ...         _ = pathlib.Path(folder, f"{split}.jsonl").write_text(json.dumps(row) + "\n")
        ...     data = load_clinc150(folder, small_size=0)
        >>> data.tree.num_leaves
        2
    """
    folder = Path(folder)
    path = folder / "domains.json"
    domains = entry(path, read_json(path), "domains")
    if not isinstance(domains, dict):
        raise ValueError(f'{path}: "domains" is a {type(domains).__name__}, expected an object')
    try:
        tree = TaskTree.from_dict({"domain": {d: {d: intents} for d, intents in domains.items()}})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    nodes = {name: node for node, name in enumerate(tree.node_names)}
    texts: dict[str, list[str]] = {}
    gold: dict[str, list[int]] = {}
    for split, name in _FILES.items():
        rows = read_lines(folder / name, "text", "domain", "intent")
        for number, (_, domain, intent) in enumerate(rows, start=1):
            if domain not in domains or (domain, intent) not in nodes:
                raise ValueError(
                    f"{folder / name}, line {number}: {path.name} has no intent {intent!r} of "
                    f"domain {domain!r}"
                )
        texts[split] = [text for text, _, _ in rows]
        gold[split] = [nodes[domain, intent] for _, domain, intent in rows]
    kept, splits = arrange_splits("clinc150", texts, small_size)
    for column in (texts, gold):
        column["train"] = [column["train"][i] for i in kept]
    return TextDataset(
        name="clinc150",
        tree=tree,
        items=tuple({"text": text} for split in _FILES for text in texts[split]),
        gold=np.array([node for split in _FILES for node in gold[split]], np.int32),
        splits=splits,
    )
