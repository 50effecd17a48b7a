"""A task tree as SVG: levels from left to right, a line of its own for each label."""

from __future__ import annotations

from metal_jax.report._figures import TreeDrawing
from metal_jax.report._svg import escape, mark, short, tag, text, width_of
from metal_jax.task_tree import TaskTree

_LINE = 19
_TASK_LINE = 22
_BAR = 46
_CHARACTERS = 24


def draw_tree(figure: TreeDrawing) -> tuple[str, int, int]:
    """The inside of the drawing, its width and its height."""
    tree = figure.tree
    places, titles, height = rows_of_tree(tree)
    bar = _BAR + 52 if figure.shares is not None else 0
    widths = [0.0] * tree.depth
    for node, (task, label) in enumerate(tree.node_names):
        depth = int(tree.node_depth[node])
        widest = max(width_of(short(label, _CHARACTERS)), width_of(short(task, _CHARACTERS), 11))
        widths[depth] = max(widths[depth], widest)
    starts = [10.0]
    for width in widths:
        starts.append(starts[-1] + width + bar + 44)
    parts = []
    for task, y in titles:
        node = tree.task_nodes[task][0]
        depth = int(tree.node_depth[node])
        parts.append(text(starts[depth], y, short(tree.tasks[task].name, _CHARACTERS), "task"))
    for node, (_, label) in enumerate(tree.node_names):
        depth, y = int(tree.node_depth[node]), places[node]
        x, parent = starts[depth], int(tree.node_parent[node])
        if parent >= 0:
            above = tree.node_names[parent][1]
            # From the end of the parent's line to the start of the child's.
            x0 = (
                starts[depth] - 44
                if bar
                else starts[depth - 1] + width_of(short(above, _CHARACTERS)) + 6
            )
            y0 = places[parent]
            bend = x - 24
            curve = f"{bend:.1f} {y0 - 4:.1f} {bend:.1f} {y - 4:.1f} {x - 12:.1f} {y - 4:.1f}"
            steps = f"M{x0:.1f} {y0 - 4:.1f}H{bend - 8:.1f}C{curve}"
            parts.append(tag("path", d=steps, class_="link"))
        leaf = tree.node_child[node] < 0
        parts.append(
            mark("dot" if leaf else "ring", x - 6, y - 4, "small main" if leaf else "small context")
        )
        note = tag("title", escape(label))
        parts.append(tag("text", note, escape(short(label, _CHARACTERS)), x=x, y=y, class_="node"))
        if figure.shares is not None:
            share = float(figure.shares[node])
            x1 = x + widths[depth] + 8
            parts.append(
                tag("rect", x=x1, y=y - 8, width=max(_BAR * share, 0.6), height=8, class_="bar")
            )
            parts.append(
                text(x1 + max(_BAR * share, 0.6) + 4, y, f"{100 * share:.1f}\u2009%", "tick")
            )
    return "".join(parts), round(starts[-1] - 30), round(height)


def rows_of_tree(tree: TaskTree) -> tuple[dict[int, float], list[tuple[int, float]], float]:
    """Where each label lies, where each task's name does, and the height of all."""
    places: dict[int, float] = {}
    titles: list[tuple[int, float]] = []
    y = 0.0
    stack = [("task", root) for root in reversed(tree.roots)]
    order: list[int] = []
    while stack:
        kind, index = stack.pop()
        if kind == "task":
            y += _TASK_LINE if titles else 14
            titles.append((index, y))
            stack += [("node", node) for node in reversed(tree.task_nodes[index])]
            continue
        order.append(index)
        child = int(tree.node_child[index])
        if child >= 0:
            stack.append(("task", child))
        else:
            y += _LINE
            places[index] = y
    for node in reversed(order):
        if node not in places:
            below = [places[n] for n in tree.task_nodes[int(tree.node_child[node])]]
            places[node] = (below[0] + below[-1]) / 2
    return places, titles, y + 10
