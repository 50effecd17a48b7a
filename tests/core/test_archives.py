"""Arrays and packed files from anybody: what lies about its size or would fill the memory."""

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metal_jax import exhaust
from metal_jax._core import archives
from metal_jax._core.archives import ArchiveError, load_arrays, save_arrays
from metal_jax.datasets import load_trec
from metal_jax.label_model import fit_stream
from metal_jax.labeling import VoteStream, read_gold, read_votes
from metal_jax.task_tree import TaskTree

TREE = TaskTree.single(2)


def npy(shape, dtype="<i8", content=b""):
    """An array file whose header says what it likes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_2_0(
        file, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return file.getvalue() + content


def npz(path, method=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["i1", "<i8", ">f4", "?", "<U3", "S2", "<M8[s]", "<c16"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
    ),
    st.booleans(),
    st.booleans(),
)
def test_what_numpy_writes_is_read(array, by_columns, packed):
    array = np.asfortranarray(array) if by_columns else array
    file, alone = io.BytesIO(), io.BytesIO()
    (np.savez_compressed if packed else np.savez)(file, L=array, other=np.zeros(3))
    np.save(alone, array)
    for found in (load_arrays(file, "L"), load_arrays(alone, alone="L")):
        assert found.keys() == {"L"}
        assert found["L"].dtype == array.dtype.newbyteorder("=")
        assert found["L"].shape == array.shape
        assert found["L"].tobytes() == array.astype(found["L"].dtype).tobytes()


def test_any_name_is_written_and_no_object():
    arrays = {"file": np.eye(2).T, "allow_pickle": np.int8(3), "a/b": np.array(["x"])}
    one, other = io.BytesIO(), io.BytesIO()
    for file in (one, other):
        save_arrays(file, arrays)
    assert one.getvalue() == other.getvalue()
    for found in (load_arrays(one), np.load(io.BytesIO(one.getvalue()), allow_pickle=False)):
        assert sorted(found) == sorted(arrays)
        for name, array in arrays.items():
            assert (found[name].shape, found[name].dtype) == (np.shape(array), array.dtype)
            np.testing.assert_array_equal(found[name], array)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        save_arrays(io.BytesIO(), {"a": np.array([{}])})


ABSURD = {
    "declared": npy((10**9, 10**9)),
    "beyond 64 bits": npy((2**63, 2**63)),
    "negative": npy((-1, 4), content=bytes(32)),
    "no space": npy((10**15,), "<U0"),
    "cut": npy((3, 2), content=bytes(40)),
    "more than it says": npy((3, 2), content=bytes(56)),
    "objects": npy((1,), "|O", b"\x80\x04N."),
    "version": b"\x93NUMPY\x09\x00" + npy((1,))[8:],
    "long header": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f",
    "no header": b"\x93NUMPY",
    "code": b"\x93NUMPY\x01\x00\x30\x00" + b"__import__('os').abort()".ljust(47) + b"\n",
}


@pytest.mark.parametrize("kind", ABSURD)
def test_an_array_must_be_as_large_as_it_says(tmp_path, kind):
    alone, archive = tmp_path / "x.npy", npz(tmp_path / "x.npz", L=ABSURD[kind])
    alone.write_bytes(ABSURD[kind])
    for path in (alone, archive):
        with pytest.raises(ArchiveError):
            load_arrays(path)
        for read in (read_votes, VoteStream, lambda p: read_gold(p, TREE, 3)):
            with pytest.raises(ValueError, match=r"x\.np[yz]"):
                read(path)
    reading = exhaust.read_table(archive, exhaust.Columns({"train/loss": "L"}))
    assert reading.runs == ()
    assert len(reading.problems) == 1


@pytest.fixture
def low_limit(monkeypatch):
    """Bombs are refused for what they would be; a small one shows it as well as a large one."""
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 16)


def test_what_expands_too_far_is_refused(tmp_path, low_limit):
    zeros = np.zeros((1000, 1000), np.int8)
    np.savez_compressed(tmp_path / "bomb.npz", L=zeros, Y=zeros[:, 0], x=zeros)
    np.savez(tmp_path / "large.npz", L=zeros)
    with pytest.raises(ArchiveError, match="expand from 1070 to 1000128 bytes, more than 100 tim"):
        load_arrays(tmp_path / "bomb.npz", "L")
    with pytest.raises(ValueError, match=r"bomb\.npz: its arrays expand"):
        read_votes(tmp_path / "bomb.npz")
    assert read_votes(tmp_path / "large.npz", num_classes=2).votes.shape == (1000, 1000)
    # A stream of batches takes it: no batch is larger than what may be unpacked at once.
    assert sum(len(batch) for batch in VoteStream(tmp_path / "bomb.npz", batch_items=50)) == 1000
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = npz(tmp_path / "odd.npz", method, L=npy((2, 2), content=bytes(32)))
        for read in (read_votes, VoteStream):
            with pytest.raises(ValueError, match=r"odd\.npz: array 'L' is packed in another way"):
                read(path)


def test_no_name_leads_out_of_a_folder(tmp_path):
    votes = np.array([[1, 2], [2, 0]])
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    np.save(tmp_path / "outside.npy", votes)
    inside.mkdir()
    for name in ("../outside", str(outside), "x/../../outside"):
        tree = TaskTree.from_dict({name: ["a", "b"]})
        with pytest.raises(ValueError, match="no file for task"):
            read_votes(inside, tree)
        np.save(inside / "L_0.npy", votes)
        assert read_votes(inside, tree).votes.shape == (2, 2)
        (inside / "L_0.npy").unlink()


CSV = b"id,epoch,loss\n" + b"a,1,2\n" * 2
COLUMNS = exhaust.Columns({"train/loss": "loss"}, run="id", epoch="epoch")


def packed(path, content):
    """The content in an archive of the kind that the name says, under a name that leads out."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("../../evil.csv", content)
    else:
        with tarfile.open(path, "w:gz") as archive:
            entry = tarfile.TarInfo("/../evil.csv")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
            link = tarfile.TarInfo("link.csv")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    return path


@pytest.mark.parametrize("name", ["t.csv.gz", "deep/er/t.zip", "deep/er/t.tgz"])
def test_archives_of_logs_are_bounded_and_written_nowhere(tmp_path, low_limit, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    reading = exhaust.read_table(packed(path, CSV), COLUMNS)
    assert [run.run for run in reading.runs] == ["a"]
    bomb = exhaust.read_table(packed(path, CSV + b"x,1,2\n" * 100_000), COLUMNS)
    assert "it expands to more than 100 times its size" in bomb.problems[-1].reason
    assert len(bomb.problems) < 30_000
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [path.name]


def test_a_hole_in_a_tar_is_not_read_to_its_end(tmp_path, low_limit):
    entry = tarfile.TarInfo("hole.csv")
    entry.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0" % 0 + b"%011o\0" % 0
    block[483:495] = b"77777777777\0"  # 8 GiB of zeros in no space at all
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path = tmp_path / "hole.tar"
    path.write_bytes(bytes(block) + bytes(1024))
    with tarfile.open(path) as archive:
        assert archive.getmembers()[0].size == 8**11 - 1
    reading = exhaust.read_table(path, COLUMNS)
    assert reading.runs == ()
    assert "expands" in reading.problems[-1].reason


LARGE = 96 << 20  # what comes out of each bomb
ZEROS = bytes(LARGE // 8)


def entry(kind, size, name="x.csv"):
    """A header of a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def make_bombs(folder):
    """Small files out of which much comes, and what is said about each."""
    for name, method, pieces in (("bz", zipfile.ZIP_BZIP2, 8), ("xz", zipfile.ZIP_LZMA, 0)):
        with (
            zipfile.ZipFile(folder / f"{name}.zip", "w", method) as archive,
            archive.open("x.csv", "w", force_zip64=True) as member,
        ):
            for _ in range(pieces):
                member.write(ZEROS)
    packed_zeros = gzip.compress(ZEROS, 1) * 8
    heads = {
        "member": entry(tarfile.REGTYPE, LARGE),
        "skipped": entry(b"A", LARGE),
        "long": entry(tarfile.GNUTYPE_LONGNAME, LARGE),
        "pax": entry(tarfile.XHDTYPE, LARGE),
        "links": entry(tarfile.GNUTYPE_LONGNAME, 1 << 19) + bytes(1 << 19),
    }
    heads["links"] *= LARGE >> 19
    for name, head in heads.items():
        (folder / f"{name}.tar.gz").write_bytes(gzip.compress(head, 1) + packed_zeros)
    (folder / "bz.tar").write_bytes(bz2.compress(heads["long"]) + bz2.compress(ZEROS) * 8)
    (folder / "xz.tar").write_bytes(lzma.compress(heads["long"]))
    # A map of where a file has holes, of as many places as it likes.
    places = (b"%d\n" % (LARGE >> 2)).ljust(512, b"0") + b"1\n" * (LARGE // 64)
    with tarfile.open(folder / "holes.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("x.csv")
        info.size = len(places)
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        archive.addfile(info, io.BytesIO(places))
    for name, shape in {"wide": (1, LARGE), "deep": (LARGE >> 12, 1 << 12)}.items():
        np.savez_compressed(folder / f"{name}.npz", L=np.zeros(shape, np.int8))
    return {
        "bz.zip": "bz.zip:x.csv: it is packed in another way",
        "xz.zip": "xz.zip:x.csv: it is packed in another way",
        "member.tar.gz": "it expands to more than",
        "skipped.tar.gz": "it expands to more than",
        "long.tar.gz": "a header of it has more than 1 MiB",
        "pax.tar.gz": "a header of it has more than 1 MiB",
        "links.tar.gz": "a header of it has more than 1 MiB",
        "holes.tar.gz": "a header of it has more than 1 MiB",
        "bz.tar": "it is packed by bzip2",
        "xz.tar": "it is packed by xz",
        "wide.npz": "one item has",
        "deep.npz": f"{LARGE >> 12} items",
    }


def test_the_memory_is_bounded_whatever_the_file_is(tmp_path):
    expected = make_bombs(tmp_path)
    command = [sys.executable, str(Path(__file__).with_name("bombs.py")), str(tmp_path)]
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | path, timeout=300
    )
    assert found.returncode == 0, found.stderr
    answers = json.loads(found.stdout)
    assert sorted(answers) == sorted(expected)
    for name, (answer, taken) in answers.items():
        assert expected[name] in answer
        assert taken < LARGE / 3, f"{name} took {taken >> 20} MiB"


def test_folders_of_data_are_read_without_bursting(tmp_path, low_limit):
    (tmp_path / "label.json").write_text('{"0": "A"}')
    (tmp_path / "fine_labels.json").write_text('{"fine": ["A:b", "A:c"], "parent": [0, 0]}')
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n')
    np.savez_compressed(tmp_path / "train.npz", L=np.zeros((1, 10**6), np.int8))
    with pytest.raises(ValueError, match=r"train\.npz: .*expand"):
        load_trec(tmp_path, small_size=0)
    (tmp_path / "label.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"label\.json: not valid JSON: nested more than 100"):
        load_trec(tmp_path)


def test_a_damaged_checkpoint_of_a_stream_is_named(tmp_path):
    path = tmp_path / "fit.npz"
    path.write_bytes(b"PK damaged")
    with pytest.raises(ValueError, match=r"fit\.npz: no checkpoint of a fit, or damaged: .*remove"):
        fit_stream([np.array([[0, 1]])], TREE, checkpoint=path)
