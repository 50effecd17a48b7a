"""The wheel and the source distribution hold every file of the repository that belongs in them."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

SOURCES = ("metal_jax", "tests", "benchmarks", "examples")
BESIDE = ("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "pyproject.toml")


def tracked(*folders: str) -> set[str]:
    """Files of these folders that git knows."""
    command = ["git", "ls-files", "--", *folders]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def main(folder: Path) -> None:
    """Compare, and stop where something is missing."""
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(archive) as tar:
        in_archive = {name.partition("/")[2] for name in tar.getnames()}
    missing = {wheel: tracked("metal_jax") - in_wheel}
    missing[archive] = (tracked(*SOURCES) | set(BESIDE)) - in_archive
    for path, names in missing.items():
        if names:
            sys.exit(f"{path.name} lacks {', '.join(sorted(names))}")
    strays = {n for n in in_wheel if not n.startswith(("metal_jax/", "metal_jax-"))}
    if strays:
        sys.exit(f"{wheel.name} holds {', '.join(sorted(strays))} beside the package")
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.2f} MB" for path in missing)
    sys.stdout.write(f"+ {sizes}: complete\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
