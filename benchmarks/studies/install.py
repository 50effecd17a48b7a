"""What installing costs: `python -m benchmarks.studies.install [--extras NAME …] [--out FILE]`.

Core and each extra go into a clean virtual environment of their own, from a wheel of this checkout,
by pip as it comes; everything is installed twice and the second time counts, so that pip's cache is
warm and the network is not in it. Size on disk is that of the environment less that of an empty
one, compiled byte code included. Import time is that of a fresh process, the best of five, less
that of a process which imports nothing; the first import after installing, which compiles byte
code where pip has not, is left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMPORTS = ("jax", "metal_jax", "metal_jax.label_model", "metal_jax.network")


def environment(folder: Path) -> Path:
    """A clean environment; its interpreter."""
    venv.create(folder, clear=True, with_pip=True)
    return folder / "bin" / "python"


def run(*command: Any) -> str:
    """Standard output of a command that must succeed."""
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def megabytes(folder: Path) -> float:
    """Of all files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def num_packages(python: Path) -> int:
    """Installed in the environment, pip and its kin not counted."""
    names = {
        entry["name"] for entry in json.loads(run(python, "-m", "pip", "list", "--format=json"))
    }
    return len(names - {"pip", "setuptools"})


def measure(extra: str, wheel: Path, folder: Path) -> dict[str, Any]:
    """Install core (an empty name) or an extra; seconds, megabytes, packages."""
    wanted = f"metal-jax[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
    seconds, empty, python = 0.0, 0.0, folder
    for _ in range(2):
        python = environment(folder)
        empty = megabytes(folder)
        start = time.perf_counter()
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted)
        seconds = time.perf_counter() - start
    row = {
        "extra": extra or "core",
        "seconds": seconds,
        "megabytes": megabytes(folder) - empty,
        "packages": num_packages(python),
        "direct": direct_dependencies(extra),
    }
    if not extra:
        row["import_seconds"] = {name: import_seconds(python, name) for name in IMPORTS}
    return row


def direct_dependencies(extra: str) -> int:
    """How many pyproject.toml lists, for core or beside it for an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return len(project["optional-dependencies"][extra] if extra else project["dependencies"])


def import_seconds(python: Path, name: str) -> float:
    """Of `import name` in a fresh process."""
    best = {}
    for code in ("pass", f"import {name}"):
        times = []
        for _ in range(6):
            start = time.perf_counter()
            run(python, "-c", code)
            times.append(time.perf_counter() - start)
        best[code] = min(times[1:])
    return best[f"import {name}"] - best["pass"]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown; of extras also what they add to core."""
    lines = [
        "| install | direct dependencies | packages | on disk, MB | pip, warm cache, s |",
        "|---|---|---|---|---|",
    ]
    core = next((row for row in rows if row["extra"] == "core"), None)
    for row in rows:
        more = "" if core in (None, row) else f" (+{row['megabytes'] - core['megabytes']:.0f})"
        lines.append(
            f"| {row['extra']} | {row['direct']} | {row['packages']} "
            f"| {row['megabytes']:.0f}{more} | {row['seconds']:.0f} |"
        )
    for row in rows:
        if times := row.get("import_seconds"):
            said = ", ".join(f"`{name}` {seconds:.2f} s" for name, seconds in times.items())
            lines.append(f"\nImport, fresh process: {said}.")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for name in project["optional-dependencies"] if name != "bench"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", nargs="*", default=extras, help="all but the peers by default")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append JSON lines to this")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", work, ROOT)
        (wheel,) = work.glob("*.whl")
        for extra in ("", *options.extras):
            row = measure(extra, wheel, work / "venv")
            rows.append(row | {"python": platform.python_version()})
            print(f"{row['extra']}: {row['seconds']:.0f} s, {row['megabytes']:.0f} MB", flush=True)
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    print(f"\nPython {platform.python_version()}, {platform.machine()}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
