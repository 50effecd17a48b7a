"""Labelling functions at the top level of a module, where worker processes find them."""

import dataclasses
import json
import os
import time
from pathlib import Path

from metal_jax.labeling import (
    ABSTAIN,
    LabelingFunction,
    gazetteer_lf,
    keyword_lf,
    labeling_function,
    length_lf,
    preprocessor,
)


@preprocessor()
def words(item):
    return item["text"].split()


@labeling_function(task="topic")
def names_a_goal(item):
    return "sport" if "goal" in words(item) else ABSTAIN


@labeling_function(task=("topic", "tone"), name="both")
def on_both(item):
    return {"topic": "trade", "tone": "glad"} if "market" in words(item) else ABSTAIN


@labeling_function(task="topic")
def fails_on_rain(item):
    if "rain" in words(item):
        raise NoPicture("no umbrella", 3)
    return ABSTAIN


class NoPicture(Exception):
    """An exception that cannot be sent from one process to another."""

    def __init__(self, what, count):
        super().__init__(f"{what} {count}")


@labeling_function(task="topic")
def slow(item):
    time.sleep(0.02)
    return "sport" if len(item["text"]) % 2 else "trade"


@labeling_function(task="topic")
def ends_the_process(item):
    os._exit(3)


@dataclasses.dataclass(frozen=True)
class Down:
    """Fails on the texts that a file lists, which is no part of it: as a network does."""

    listed: str

    def __call__(self, item):
        if item["text"] in json.loads(Path(self.listed).read_text()):
            raise ConnectionError("try again later")
        return "sport"


def down_where(listed):
    return LabelingFunction("down", "topic", Down(listed))


def upper_text(item):
    return item["text"].upper()


LFS = [
    names_a_goal,
    on_both,
    keyword_lf("words", "topic", "sport", ["goal", "late"]),
    gazetteer_lf(
        "places", "topic", {"sport": ["LONDON"], "trade": ["WALL STREET"]}, text=upper_text
    ),
    length_lf("short", "tone", "glad", longest=2),
]

TEXTS = ["a late goal", "the market fell", "rain", "london", "wall  street", "no goal in london"]
ITEMS = [{"text": TEXTS[i * i % 7 % 6] + " again" * (i % 11)} for i in range(300)]


def is_module_level(lf):
    return isinstance(lf, LabelingFunction)
