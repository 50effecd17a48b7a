"""A process that reads the packed files of a folder and says how much memory each took it."""

import json
import resource
import sys
from pathlib import Path

from metal_jax import exhaust
from metal_jax._core import archives
from metal_jax.labeling import VoteStream

COLUMNS = exhaust.Columns({"train/loss": "loss"}, run="id", epoch="epoch")


def peak() -> int:
    """Bytes; Linux counts in kibibytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def read(path: Path) -> str:
    """What is said about the file."""
    if path.suffix == ".npz":
        try:
            stream = VoteStream(path)
            return f"{sum(map(len, stream))} items"
        except ValueError as error:
            return str(error)
    reading = exhaust.read_table(path, COLUMNS)
    assert reading.runs == ()
    return "; ".join(f"{Path(p.file).name}: {p.reason}" for p in reading.problems)


if __name__ == "__main__":
    archives.FREE_BYTES = 1 << 20
    found = {}
    for path in sorted(Path(sys.argv[1]).iterdir()):
        before = peak()
        answer = read(path)
        found[path.name] = (answer, peak() - before)
    sys.stdout.write(json.dumps(found))
