"""Label matrices in files: every kind gives the same batches, in bounded memory."""

import numpy as np
import pytest

from metal_jax.labeling import VoteStream

VOTES = np.random.default_rng(0).integers(-1, 3, (53, 4)).astype(np.int8)


@pytest.fixture(params=["npy", "fortran", "npz", "compressed", "parquet"])
def path(request, tmp_path):
    kind = request.param
    path = tmp_path / f"votes.{dict(fortran='npy', compressed='npz').get(kind, kind)}"
    if kind in ("npy", "fortran"):
        np.save(path, VOTES if kind == "npy" else np.asfortranarray(VOTES))
    elif kind in ("npz", "compressed"):
        (np.savez if kind == "npz" else np.savez_compressed)(path, L=VOTES)
    else:
        pyarrow, parquet = map(pytest.importorskip, ("pyarrow", "pyarrow.parquet"))
        columns = {f"lf {j}": pyarrow.array(v, mask=v < 0) for j, v in enumerate(VOTES.T)}
        parquet.write_table(pyarrow.table(columns), path, row_group_size=10)
    return path


@pytest.mark.parametrize("size", [1, 7, 53, 100])
def test_batches_are_the_matrix(path, size):
    stream = VoteStream(path, batch_items=size)
    assert (stream.num_items, stream.num_lfs) == VOTES.shape
    for _ in range(2):  # and can be read again
        batches = list(stream)
        assert max(map(len, batches)) <= size
        np.testing.assert_array_equal(np.concatenate(batches), VOTES)


@pytest.mark.parametrize("items", [1, 8, 10, 50])
def test_parts_are_read_alone(path, items):
    stream = VoteStream([path, path], batch_items=6)
    parts = stream.parts(items)
    assert all(part.stop - part.start <= items for part in parts)
    found = [np.concatenate(list(stream.read(part))) for part in parts]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate([VOTES, VOTES]))


def test_batches_do_not_hold_the_file(tmp_path):
    np.save(tmp_path / "a.npy", VOTES)
    batch = next(iter(VoteStream(tmp_path / "a.npy", batch_items=10)))
    assert batch.base is None  # a copy: the mapped pages are free to go
    assert batch.flags.writeable


def test_errors_name_the_file(tmp_path):
    np.save(tmp_path / "a.npy", VOTES)
    np.save(tmp_path / "three.npy", VOTES[:, :3])
    np.save(tmp_path / "float.npy", VOTES.astype(float))
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "other.npz", votes=VOTES)
    np.savez(tmp_path / "fortran.npz", L=np.asfortranarray(VOTES))
    for names, message in [
        ([], "got none"),
        (["a.npy", "three.npy"], r"three\.npy: 3 LFs, expected 4"),
        (["float.npy"], r"float\.npy: got float64\[53, 4\]"),
        (["object.npy"], "Python objects"),
        (["other.npz"], "there is no array 'L'"),
        (["fortran.npz"], "C order"),
        (["votes.txt"], r"votes\.txt: expected one of"),
    ]:
        with pytest.raises(ValueError, match=message):
            VoteStream([tmp_path / name for name in names])
