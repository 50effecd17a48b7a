"""The task tree: numbering, validation, conversions, drawing."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metal_jax.task_tree import (
    Task,
    TaskTree,
    draw,
    from_metal_graph,
    from_metal_hierarchy,
    read_json,
    write_json,
)

SPEC = {
    "triage": {"normal": None, "abnormal": {"urgency": {"a": None, "b": {"c": ["x", "y"]}}}},
    "view": ["front", "side"],
}


@st.composite
def trees(draw_from):
    """Random forests of up to a dozen tasks."""
    tasks = []
    for i in range(draw_from(st.integers(1, 8))):
        width = draw_from(st.integers(1, 4))
        free = [
            (task.name, label)
            for task in tasks
            for label in task.labels
            if not any(other.parent == (task.name, label) for other in tasks)
        ]
        parent = draw_from(st.sampled_from([None, *free])) if free else None
        tasks.append(Task(f"t{i}", tuple(f"l{j}" for j in range(width)), parent))
    order = draw_from(st.permutations(tasks))
    return TaskTree.from_tasks(order)


def test_numbering():
    tree = TaskTree.from_dict(SPEC)
    assert [task.name for task in tree.tasks] == ["triage", "view", "urgency", "c"]
    assert tree.node("triage", "normal") == 0
    assert tree.node("view", "front") == 2
    assert tree.num_leaves == 6
    assert tree.leaf_paths[2] == (("triage", "abnormal"), ("urgency", "b"), ("c", "x"))
    assert tree.root_leaves == (slice(0, 4), slice(4, 6))
    assert tree.ancestors(tree.node("c", "y")) == (
        tree.node("triage", "abnormal"),
        tree.node("urgency", "b"),
    )
    gold = np.array([tree.node("c", "y"), tree.node("triage", "abnormal"), -1])
    assert tree.task_labels(gold).tolist() == [[1, -1, 1, 1], [1, -1, -1, -1], [-1, -1, -1, -1]]


def test_coarse_ids_survive_a_finer_level():
    flat = TaskTree.single(["a", "b", "c"], name="root")
    deep = TaskTree.from_dict({"root": {"a": None, "b": {"fine": ["x", "y"]}, "c": None}})
    for label in "abc":
        assert flat.node("root", label) == deep.node("root", label)


@settings(max_examples=60, deadline=None)
@given(trees())
def test_tables_agree_with_their_definitions(tree):
    assert tree.num_leaves == len(tree.leaf_paths) == len(set(tree.leaf_paths))
    for node in range(tree.num_nodes):
        start, stop = tree.node_leaves[node]
        name = tree.node_names[node]
        beneath = [i for i, path in enumerate(tree.leaf_paths) if name in path]
        assert beneath == list(range(start, stop))
        assert tree.covers[node].nonzero()[0].tolist() == beneath
        assert tree.node_depth[node] == len(tree.ancestors(node))
        leaf = tree.node_leaf[node]
        assert (leaf >= 0) == (tree.node_child[node] < 0)
        assert leaf < 0 or tree.leaf_paths[leaf][-1] == name
    in_levels = [n for level in tree.levels for n in level.nodes[level.mask]]
    assert in_levels == list(range(tree.num_nodes))
    assert TaskTree.from_dict(tree.to_dict()) == tree
    assert TaskTree.from_dict(json.loads(json.dumps(tree.to_dict()))) == tree
    assert TaskTree.from_tasks(tree.tasks) == tree
    assert len(draw(tree).splitlines()) == tree.num_nodes + tree.num_tasks


def test_hashable_and_static():
    one, two = TaskTree.from_dict(SPEC), TaskTree.from_dict(SPEC)
    assert one is not two
    assert one == two
    assert hash(one) == hash(two)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "at least one task"),
        ([Task("a", ("x",)), Task("a", ("y",))], "two tasks are called 'a'"),
        ([Task("a", ())], "task 'a' has no labels"),
        ([Task("a", ("x", ""))], "task 'a': label 1 is empty"),
        ([Task("a", ("x", "x"))], "task 'a': label 'x' appears twice"),
        ([Task("a", ("x",)), Task("b", ("y",), ("c", "x"))], "'b': unknown parent task 'c'"),
        ([Task("a", ("x",)), Task("b", ("y",), ("a", "z"))], "'a' has no label 'z'"),
        (
            [Task("a", ("x",)), Task("b", ("y",), ("a", "x")), Task("c", ("z",), ("a", "x"))],
            "task 'a', label 'x': two child tasks, 'b' and 'c'",
        ),
        (
            [Task("r", ("w",)), Task("a", ("x",), ("b", "y")), Task("b", ("y",), ("a", "x"))],
            r"\['a', 'b'\] hang under each other in a cycle",
        ),
    ],
)
def test_bad_tasks_are_named(tasks, message):
    with pytest.raises(ValueError, match=message):
        TaskTree.from_tasks(tasks)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (["a"], "must be a dict"),
        ({}, "at least one task"),
        ({"a": "xy"}, "task 'a': labels must be a list or a dict"),
        ({"a": ["x", "x"]}, "'x' appears twice"),
        ({"a": [1]}, "label must be a string, got 1"),
        ({"a": [{"b": []}]}, "label must be a string, got {"),
        ({"a": {"x": "y"}}, "task 'a', label 'x': expected None or one child task"),
        ({"a": {"x": {"b": ["u"], "c": ["v"]}}}, "two child tasks"),
        ({"a": {"x": {"a": ["u"]}}}, "two tasks are called 'a'"),
    ],
)
def test_bad_dicts_are_named(spec, message):
    with pytest.raises(ValueError, match=message):
        TaskTree.from_dict(spec)


def test_json_file(tmp_path):
    tree = TaskTree.from_dict(SPEC)
    path = tmp_path / "tree.json"
    write_json(tree, path)
    assert read_json(path) == tree


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"a": ["x"], "a": ["y"]}', '{"a": []}', "{" * 100_000, '{"a":' * 99_999]
)
def test_bad_json_names_the_file(tmp_path, text):
    path = tmp_path / "tree.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"tree\.json: not a task tree"):
        read_json(path)


def test_metal_hierarchy():
    tree = from_metal_hierarchy([2, 3, 3], [(0, 1), (0, 2)])
    assert tree.tasks[1].parent == ("task0", "1")
    assert tree.tasks[2].parent == ("task0", "2")
    assert tree.num_leaves == 6
    partial = from_metal_hierarchy([3, 2], [(0, 1)])
    assert [path[-1][1] for path in partial.leaf_paths] == ["1", "2", "2", "3"]
    assert from_metal_graph([2, 3]).root_leaves == (slice(0, 2), slice(2, 5))


@pytest.mark.parametrize(
    ("cardinalities", "edges", "message"),
    [
        ([2, 2], [(0, 2)], "no task 2"),
        ([2, 2, 2], [(0, 2), (1, 2)], "task2 already has a parent"),
        ([1, 2, 2], [(0, 1), (0, 2)], "task0 has 1 labels"),
        ([2, 2], [], "a hierarchy has one root"),
        ([2, 2], [(0, 1), (1, 0)], "cycle"),
    ],
)
def test_bad_metal_hierarchies(cardinalities, edges, message):
    with pytest.raises(ValueError, match=message):
        from_metal_hierarchy(cardinalities, edges)


@pytest.mark.parametrize("label", [{"y": []}, ["y"], 1, None, True])
def test_a_label_that_is_no_string_is_named(label):
    with pytest.raises(ValueError, match="task 't': label must be a string, got "):
        TaskTree.from_dict({"t": ["x", label]})


def test_many_labels_and_tasks_take_no_squares_of_time():
    """In squares of 20,000 this would take minutes."""
    names = [f"label {i}" for i in range(20_000)]
    assert TaskTree.single(names).num_leaves == 20_000
    with pytest.raises(ValueError, match="label 'label 0' appears twice"):
        TaskTree.single([*names, "label 0"])
    forest = TaskTree.from_tasks(Task(f"t{i}", ("a", "b")) for i in range(20_000))
    assert len(forest.roots) == 20_000
