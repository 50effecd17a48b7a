"""Shared set-up: eight CPU devices, an x64 fixture, and where the real data lies."""

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
# Nearly all of the suite's time is compilation of small programs; this saves a third of it.
jax.config.update("jax_disable_most_optimizations", True)
# So do XLA's older emitters, two fifths of the rest. Newer releases do not know the flag and stop;
# there, and in .ci/packages, the emitters of every day are tested. Children inherit the variable.
if jax.__version_info__[:2] == (0, 10):
    _FLAGS = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{_FLAGS} --xla_cpu_use_fusion_emitters=false".strip()


# The same examples in every run; the long suites, which search for new ones, say so.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile("same")

_CACHE = "METAL_JAX_TEST_CACHE"


def pytest_configure(config):
    """One cache of compiled programs for all workers of a run: the same small ones come again."""
    if _CACHE not in os.environ:  # the workers, started later, inherit it
        os.environ[_CACHE] = tempfile.mkdtemp(prefix="metal_jax-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(_CACHE), ignore_errors=True))
    jax.config.update("jax_compilation_cache_dir", os.environ[_CACHE])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture
def x64():
    """Run the test in 64-bit mode."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def _free_programs():
    """Compiled programs are memory maps, of which a process may hold some 65,000 on Linux."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data, or skip."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("METAL_JAX_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real data not found: neither $METAL_JAX_DATA nor {default}")
    return folder
