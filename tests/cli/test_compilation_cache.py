"""Start-up: what is imported, and where compiled programs are kept."""

import os
import subprocess
import sys

import pytest

from metal_jax.cli._compilation_cache import use_compilation_cache

HEAVY = ("flax", "matplotlib", "optax", "orbax", "pandas", "rich", "scipy", "sklearn", "torch")


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import metal_jax", ()),
        ("import metal_jax.labeling", ()),
        ("import metal_jax.label_model", ("optax",)),
    ],
)
def test_imports_stay_light(code, allowed):
    # What JAX loads by itself does not count.
    found = run(
        f"import jax, sys; before = set(sys.modules); {code}; print(*set(sys.modules) - before)"
    )
    loaded = {name for name in HEAVY if name in found.split()}
    assert loaded <= set(allowed)


def test_the_command_keeps_programs_in_the_cache_folder(tmp_path):
    code = (
        "from metal_jax.cli._compilation_cache import use_compilation_cache\n"
        "use_compilation_cache()\n"
        "import jax\n"
        "jax.jit(lambda x: x * 2 + 1)(1.0)\n"
        "print(jax.config.jax_compilation_cache_dir)"
    )
    folder = tmp_path / "metal_jax"
    clean = {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    assert run(code, **clean) == str(folder)
    assert any(folder.glob("*-cache"))
    assert folder.stat().st_mode & 0o077 == 0
    other = str(tmp_path / "other")
    assert run(code, **clean, JAX_COMPILATION_CACHE_DIR=other) == other


def test_a_process_that_has_jax_keeps_its_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    use_compilation_cache()
    assert not list(tmp_path.iterdir())
    assert os.environ.get("JAX_COMPILATION_CACHE_DIR") != str(tmp_path / "metal_jax")


def test_a_home_that_is_read_only_is_no_error(monkeypatch, tmp_path):
    taken = tmp_path / "file"
    taken.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(taken))
    monkeypatch.delitem(sys.modules, "jax")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    for name in (
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES",
    ):
        monkeypatch.setenv(name, os.environ.get(name, "0"))
    use_compilation_cache()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
