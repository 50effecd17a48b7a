"""The fuzzer's targets on a few mutated and long inputs; `benchmarks.studies.fuzz` runs longer."""

import random

import pytest

from benchmarks.studies import fuzz, fuzz_targets


def mutate(group, folder, rounds, seed):
    targets = fuzz_targets.GROUPS[group](folder)
    fuzzer = fuzz.Fuzzer(targets)
    rng = random.Random(seed)
    for name, target in targets.items():
        pool = fuzz_targets.seeds(name, folder)
        for data in pool:
            fuzzer.run(name, target, data)
        assert fuzzer.accepted[name], f"{name}: no sound input"
        for _ in range(rounds):
            fuzzer.run(name, target, fuzz.mutated(rng, pool))
    assert fuzzer.faults == {}
    return fuzzer


@pytest.mark.parametrize("group", fuzz_targets.GROUPS)
def test_readers_take_any_bytes(tmp_path, group):
    mutate(group, tmp_path, rounds=25, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("group", fuzz_targets.GROUPS)
def test_readers_take_any_bytes_for_long(tmp_path, group):
    fuzzer = mutate(group, tmp_path, rounds=3000, seed=1)
    for name, target in fuzz_targets.GROUPS[group](tmp_path).items():
        for seed in fuzz_targets.seeds(name, tmp_path):
            for data in fuzz.stress(seed):
                fuzzer.run(name, target, data)
    assert fuzzer.faults == {}


def test_faults_are_seen(tmp_path):
    """A fuzzer that cannot fail proves nothing."""

    def broken(data):
        if b"!" in data:
            raise KeyError("!")
        raise ValueError("no")

    def endless(data):
        while True:
            pass

    fuzzer = fuzz.Fuzzer({"broken": broken, "endless": endless})
    fuzzer(b"\x00fine")
    fuzzer(b"\x00now!")
    assert [key.partition(" at ")[0] for key in fuzzer.faults] == ["broken: KeyError"]
    assert fuzzer.inputs == {"broken": 2, "endless": 0}


@pytest.mark.slow
def test_endless_inputs_are_seen():
    def endless(data):
        while True:
            pass

    fuzzer = fuzz.Fuzzer({"endless": endless})
    fuzzer(b"\x00")
    assert [key.partition(" at ")[0] for key in fuzzer.faults] == ["endless: Slow"]
