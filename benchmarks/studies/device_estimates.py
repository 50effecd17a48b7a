"""What other devices would take, on paper: operations and bytes against published peaks.

An estimate, not a measurement. The least time is the larger of

    operations / (devices x peak operations a second)
    bytes / (devices x peak bytes a second)

with the votes in the devices' memory at the start and each read once; transfers between devices
(a sum of d x d counts or d x k tables) are of another order and left out. A kernel reaches a share
of its bound; the second figure divides by the share that this machine's kernel reached of this
machine's own measured ceilings.

Peaks of one chip, dense: TPU v5e, Google Cloud documentation "TPU v5e", system architecture (197
TFLOPS in bfloat16, 393 TOPS in int8, 819 GB/s; a float32 product of full precision takes six
bfloat16 passes); H100 SXM, NVIDIA H100 data sheet (1,979 TOPS in int8 and 67 TFLOPS in float32,
where the tensor cores' figures printed "with sparsity" are halved; 3.35 TB/s).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Device(NamedTuple):
    """Published peaks of one chip, operations and bytes a second."""

    name: str
    count: int
    int8: float
    float32: float
    copy: float


DEVICES = (
    Device("v5e-8", 8, 393e12, 197e12 / 6, 819e9),
    Device("8 x H100 SXM", 8, 1979e12, 67e12, 3.35e12),
)


class Work(NamedTuple):
    """Operations and bytes of one piece of work, and in which arithmetic."""

    name: str
    operations: float
    num_bytes: float
    arithmetic: str
    formula: str


def works(num_votes: float = 1e10, m: int = 50, k: int = 2) -> tuple[Work, ...]:
    """The passes of a label model over so many votes of m LFs that never abstain."""
    n, d, v = num_votes / m, m * k, num_votes
    return (
        Work(
            "overlap counts",
            n * d * (d + 1),
            n * m,
            "int8",
            "n d (d + 1) operations; n m bytes of votes",
        ),
        Work(
            "EM step",
            4 * v * k,
            2 * n * m + 8 * n * k,
            "float32",
            "4 v k operations; 2 n m + 8 n k bytes: votes read, probabilities written and read",
        ),
        Work(
            "posterior",
            2 * v * k,
            n * m + 4 * n * k,
            "float32",
            "2 v k operations; n m + 4 n k bytes: votes and probabilities",
        ),
    )


def least_seconds(work: Work, device: Device) -> tuple[float, str]:
    """The bound, and which of the two sets it."""
    by = {
        "operations": work.operations / (device.count * getattr(device, work.arithmetic)),
        "bytes": work.num_bytes / (device.count * device.copy),
    }
    bound = max(by, key=lambda name: by[name])
    return by[bound], bound


def estimates(shares: Mapping[str, float], num_votes: float = 1e10) -> str:
    """A Markdown table.

    Args:
        shares: of the bound that this machine reached, by work; a work without one has no second
            figure.
        num_votes: how many.

    Returns:
        The table, with the formulas beneath.
    """
    lines = [
        f"ESTIMATE, not measured: {num_votes:.0e} votes (m = 50, k = 2), resident on the devices",
        "",
        "| one pass | device | least time | bound by | at the share reached here |",
        "|---|---|---|---|---|",
    ]
    for work in works(num_votes):
        for device in DEVICES:
            seconds, bound = least_seconds(work, device)
            share = shares.get(work.name)
            reached = f"{1e3 * seconds / share:.3g} ms ({share:.0%})" if share else "not measured"
            lines.append(
                f"| {work.name} | {device.name} | {1e3 * seconds:.3g} ms | {bound} | {reached} |"
            )
    lines += ["", *(f"- {work.name}: {work.formula}" for work in works(num_votes))]
    lines.append(
        "- least time = max(operations / (chips x peak), bytes / (chips x bandwidth)); n = v / m "
        "items, d = m k columns"
    )
    return "\n".join(lines)
