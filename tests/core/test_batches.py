"""Streams of batches: passes, positions, and iterators that keep their own."""

import itertools

import numpy as np
import pytest

from metal_jax._core.batches import BatchStream, stack_batches

BATCHES = [np.full(2, i) for i in range(3)]


def numbers(batches):
    return [int(batch[0]) for batch in batches]


class Loader:
    """An iterator in the manner of Grain's, whose state is JSON or bytes."""

    def __init__(self, as_bytes=False, end=None):
        self.position, self.as_bytes, self.end = 0, as_bytes, end

    def __iter__(self):
        return self

    def __next__(self):
        if self.position == self.end:
            raise StopIteration
        self.position += 1
        return np.full(2, self.position - 1)

    def get_state(self):
        return str(self.position).encode() if self.as_bytes else {"at": (self.position,)}

    def set_state(self, state):
        self.position = int(state if self.as_bytes else state["at"][0])


class Epochs:
    """An iterable of passes, each of a stateful iterator."""

    def __init__(self):
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        return Loader(end=3)


def test_an_iterable_is_passed_through_again_and_an_iterator_once():
    assert numbers(BatchStream(BATCHES).take(7)) == [0, 1, 2, 0, 1, 2, 0]
    once = BatchStream(iter(BATCHES), prepare=lambda batch: batch + 10)
    assert numbers([once.first()]) == [0]
    assert [numbers(once.take(2)) for _ in range(3)] == [[10, 11], [12], []]
    assert BatchStream([]).take(1) == []


@pytest.mark.parametrize("read", [0, 1, 2, 5])
def test_a_position_without_state_is_read_up_to(read):
    stream = BatchStream(BATCHES)
    stream.take(read)
    rest = numbers(stream.take(4))
    position = BatchStream(BATCHES)
    position.take(read)
    other = BatchStream(BATCHES)
    other.first()
    with pytest.warns(UserWarning, match=f"no get_state: {read} batches are read and dropped"):
        other.restore(position.state())
    assert numbers(other.take(4)) == rest


@pytest.mark.parametrize("as_bytes", [False, True])
def test_an_iterator_keeps_its_own_position(as_bytes):
    stream = BatchStream(Loader(as_bytes))
    stream.first()
    stream.take(5)
    other = BatchStream(Loader(as_bytes))
    other.first()
    other.restore(stream.state())
    assert numbers(other.take(2)) == [5, 6]
    assert other.state()["num_read"] == 7


def test_passes_of_an_iterator_with_state():
    stream = BatchStream(Epochs())
    stream.take(5)
    other = BatchStream(Epochs())
    other.restore(stream.state())
    assert numbers(other.take(5)) == numbers(stream.take(5)) == [2, 0, 1, 2, 0]


def test_positions_that_cannot_be_reached():
    stream = BatchStream(Loader())
    state = stream.state()
    with pytest.raises(ValueError, match="this one has none"):
        BatchStream(BATCHES).restore(state)
    with (
        pytest.warns(UserWarning, match="dropped"),
        pytest.raises(ValueError, match="end before the saved position, 5"),
    ):
        BatchStream(iter(BATCHES)).restore({"num_read": 5, "iterator": None})
    stream.first()
    with pytest.raises(ValueError, match="not taken yet"):
        stream.state()


def test_a_state_that_is_not_json():
    loader = Loader()
    loader.get_state = lambda: {1, 2}
    with pytest.raises(ValueError, match="state of type set, expected bytes or JSON"):
        BatchStream(loader).state()


def test_stacking_repeats_the_last_and_puts_replicas_first():
    batches = [{"x": np.full((4, 2), i), "y": np.full((3, 4), i)} for i in range(2)]
    block = stack_batches(batches, None, 3)
    assert block["x"].shape == (3, 4, 2)
    assert block["x"][:, 0, 0].tolist() == [0, 1, 1]
    block = stack_batches([(b["x"], b["y"]) for b in batches], (None, 0), 2)
    assert [x.shape for x in block] == [(2, 4, 2), (3, 2, 4)]


def test_batches_of_other_shapes_are_named():
    with pytest.raises(ValueError, match=r"batch 1 of 2 read: got \{'': 'int64\[1\]'\}, expected"):
        stack_batches([np.zeros(2, int), np.zeros(1, int)], None, 2)
    endless = BatchStream(itertools.repeat(np.zeros(1)))
    assert len(endless.take(3)) == 3
