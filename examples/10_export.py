"""Export: a fitted model as one file that any machine with JAX can call.

    python examples/10_export.py

A model that was fitted here is often to run somewhere else: in a service that should not carry this
library, on a TPU though it was fitted on a laptop, next year. `metal_jax.export` lowers the
posterior of a label model, or a network's predictions, for CPU, CUDA, ROCm and TPU at once and for
any number of items, and writes one file. Who loads it needs JAX and nothing else: the last part of
this script is run by a second Python in which this library cannot be imported.

The votes are simulated. Needs the extra `export`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from metal_jax import export, label_model, labeling
from metal_jax.task_tree import TaskTree

ELSEWHERE = """
import sys
sys.modules["metal_jax"] = None  # importing it would be an error
from pathlib import Path
import jax, numpy as np

model = jax.export.deserialize(Path(sys.argv[1]).read_bytes())
votes = np.load(sys.argv[2])
print("elsewhere:", np.asarray(model.call(votes))[:, 0].tolist())
"""


def main():
    """Fit, export, call without the library."""
    tree = TaskTree.single(["spam", "ham"])
    data = labeling.synthetic_votes(jax.random.key(0), 2_000, 6, tree)
    result = label_model.fit(data.votes, tree)

    lowered = export.lower_label_model(result)
    print("platforms:", ", ".join(lowered.platforms))
    cost = export.cost(lowered, num_items=1_000)
    print(f"1,000 items: {cost.flops:,.0f} operations, {cost.bytes_accessed:,.0f} bytes")

    new = data.votes[:3].astype(np.int32)
    print("here:     ", np.asarray(label_model.posterior(result, new))[:, 0].tolist())
    with tempfile.TemporaryDirectory() as folder:
        file, votes = Path(folder, "model.bin"), Path(folder, "votes.npy")
        export.save(file, lowered, export.describe(lowered, tree))
        np.save(votes, new)
        about = json.loads(Path(f"{file}.json").read_text())
        print(f"{file.name}: {file.stat().st_size:,} bytes, {sorted(about)}")
        subprocess.run([sys.executable, "-c", ELSEWHERE, file, votes], check=True)


if __name__ == "__main__":
    main()
