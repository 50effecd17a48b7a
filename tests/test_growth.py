"""Growth of cost: exponents, where an axis ends, estimates for other devices."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.harness import Case
from benchmarks.machine import Ceilings
from benchmarks.studies import growth
from benchmarks.studies.device_estimates import DEVICES, estimates, least_seconds, works
from benchmarks.studies.growth_cases import Growth, growths

LIMITS = Ceilings(1e9, 2e9, 1e9)


def test_exponent_of_a_power():
    sizes = [10, 100, 1000, 10_000, 100_000]
    found = growth.exponent(sizes, [3e-6 * n**1.5 for n in sizes])
    assert found.slope == pytest.approx(1.5)
    assert found.error == pytest.approx(0, abs=1e-6)
    assert found.num_sizes == 3


def test_exponent_is_of_the_larger_sizes():
    sizes = [1, 10, 100, 1000, 10_000, 100_000]
    fixed = growth.exponent(sizes, [1.0 + 1e-2 * n for n in sizes])
    assert 0.8 < fixed.slope <= 1
    assert fixed.error > 0
    assert np.isnan(growth.exponent([1, 2], [1.0, 2.0]).error)


def test_standard_error_is_that_of_least_squares():
    sizes, noise = [1, 10, 100, 1000], [0.9, 1.2, 0.8, 1.1]
    times = [n * e for n, e in zip(sizes, noise, strict=True)]
    x, y = np.log(sizes[1:]), np.log(times[1:])
    _, covariance = np.polyfit(x, y, 1, cov=True)
    assert growth.exponent(sizes, times).error == pytest.approx(covariance[0, 0] ** 0.5)


def rows_of(limit):
    one = Growth("items", "a sum", "", (10, 100, 1000), lambda n: Case("", jnp.sum, (jnp.ones(n),)))
    return growth.run(one, LIMITS, quick=False, seconds=0.0, limit=limit)


def test_rows_and_table(tmp_path):
    rows = rows_of(np.inf)
    assert [row["size"] for row in rows] == [10, 100, 1000]
    assert {row["kind"] for row in rows} == {"growth"}
    line = growth.table(rows).splitlines()[-1]
    assert line.startswith("| items | a sum |  | 10 | 1,000 |")
    growth.plot(rows, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_an_axis_ends_where_runs_grow_too_long():
    assert [row["size"] for row in rows_of(0.0)] == [10, 100]


def test_names_of_growths_are_unique_and_sizes_rise():
    found = list(growths())
    assert len({(one.axis, one.work) for one in found}) == len(found)
    assert all(list(one.sizes) == sorted(one.sizes) and len(one.sizes) > 3 for one in found)


def test_estimate_is_the_larger_of_two_bounds():
    counts = works(1e10)[0]
    v5e = DEVICES[0]
    operations = 2e8 * 100 * 101 / (8 * 393e12)
    moved = 1e10 / (8 * 819e9)
    assert least_seconds(counts, v5e) == (pytest.approx(max(operations, moved)), "bytes")
    wide = works(1e10, m=1000)[0]
    assert least_seconds(wide, v5e)[1] == "operations"


def test_estimates_say_so():
    text = estimates({"overlap counts": 0.5})
    assert text.startswith("ESTIMATE, not measured")
    assert "3.05 ms (50%)" in text  # 10^10 bytes over 8 x 819 GB/s, at half of that
    assert text.count("not measured |") == 2 * len(DEVICES)
