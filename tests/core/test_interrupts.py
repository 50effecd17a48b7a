"""Ctrl-C waits for the end of what must be whole, and is never lost."""

import signal
import threading

import pytest

from metal_jax._core.interrupts import interrupts_deferred


@pytest.fixture(autouse=True)
def _felt():
    """Python's own handler, also where the tests run in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(times, done, error=None):
    with interrupts_deferred():
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        if error is not None:
            raise error
        done.append("all")


def test_it_is_felt_at_the_end():
    before, done = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt):
        interrupted(1, done)
    assert done == ["all"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_one_is_felt_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(2, done)
    assert done == []


def test_an_error_does_not_lose_it():
    with pytest.raises(KeyboardInterrupt) as told:
        interrupted(1, [], OSError("the disk is full"))
    assert isinstance(told.value.__context__, OSError)


def test_without_one_nothing_is_raised():
    done = []
    interrupted(0, done)
    assert done == ["all"]
    with pytest.raises(OSError, match="full"):
        interrupted(0, done, OSError("the disk is full"))


def test_the_programs_own_handler_is_called():
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with interrupts_deferred():
            signal.raise_signal(signal.SIGINT)
            assert seen == []
        assert seen == [signal.SIGINT]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with interrupts_deferred():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_left_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with interrupts_deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
