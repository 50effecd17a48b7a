import itertools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metal_jax.exhaust import (
    Edge,
    EditCosts,
    Graph,
    Layer,
    _sequence_distance,
    graph_distance,
    pairwise,
    read_cell_string,
    read_layer_string,
    read_open_logs,
)
from metal_jax.exhaust._layer_costs import EncodedLayers, encode_layers
from metal_jax.exhaust._layer_kinds import describe
from metal_jax.exhaust._sequence_distance import by_cells, by_diagonals

COSTS = EditCosts()
KINDS = ["Conv2d", "Linear", "ConvTranspose2d", "MaxPool2d", "ReLU", "Tanh", "Mystery", "Other"]


def layer_reference(a, b):
    """The distance of two layers (None: no layer) from the documented rule, in plain Python."""

    def cost(layer):
        return COSTS.families.get(describe(layer).family, COSTS.other)

    if a is None or b is None:
        return sum(cost(layer) for layer in (a, b) if layer is not None)
    x, y = describe(a), describe(b)
    both = cost(a) + cost(b)
    if x.kind == y.kind:
        shares = [COSTS.sizes[size] for size in COSTS.sizes]
        gaps = [
            abs(round(cost(a) * w * p * 1024) - round(cost(b) * w * q * 1024)) / 1024
            for w, p, q in zip(shares, x.sizes, y.sizes, strict=True)
        ]
        return min(sum(gaps), 3 / 8 * both)
    same_family = x.family == y.family != "unknown"
    return both / 2 if same_family else both


def sequence_reference(a, b):
    table = {(0, 0): 0.0}
    for i, j in itertools.product(range(len(a) + 1), range(len(b) + 1)):
        ways = [table[0, 0]] if i == j == 0 else []
        if i:
            ways.append(table[i - 1, j] + layer_reference(a[i - 1], None))
        if j:
            ways.append(table[i, j - 1] + layer_reference(None, b[j - 1]))
        if i and j:
            ways.append(table[i - 1, j - 1] + layer_reference(a[i - 1], b[j - 1]))
        table[i, j] = min(ways)
    return table[len(a), len(b)]


def random_sequences(seed, num, longest=12):
    random = np.random.default_rng(seed)
    return [
        tuple(
            Layer(
                str(random.choice(KINDS)),
                {"out_channels": int(2 ** random.uniform(0, 9)), "p": float(random.uniform())},
            )
            for _ in range(random.integers(0, longest + 1))
        )
        for _ in range(num)
    ]


@pytest.fixture(scope="module")
def sequences():
    return random_sequences(0, 20)


@pytest.fixture(scope="module")
def distances(sequences):
    return pairwise(sequences)


def assert_is_metric(matrix):
    np.testing.assert_array_equal(matrix, matrix.T)
    assert (matrix >= 0).all()
    assert (np.diag(matrix) == 0).all()
    detour = (matrix[:, :, None] + matrix[None]).min(1)
    assert (matrix <= detour).all()


def test_agrees_exactly_with_plain_python(sequences, distances):
    expected = [[sequence_reference(a, b) for b in sequences] for a in sequences]
    np.testing.assert_array_equal(distances, expected)


def test_is_a_metric(distances):
    assert_is_metric(distances)


def test_blocks_and_two_sets_give_the_same(sequences, distances):
    np.testing.assert_array_equal(
        pairwise(sequences[:7], sequences[5:], block=4), distances[:7, 5:]
    )
    np.testing.assert_array_equal(pairwise(sequences, block=8), distances)


def cells_of_padded(a, b):
    return by_cells(a, b, a.kind.shape[0], b.kind.shape[0])


@pytest.mark.parametrize("distance", [by_diagonals, cells_of_padded])
def test_one_pair_and_vmap_in_either_order(sequences, distances, distance):
    (encoded,) = encode_layers([sequences], COSTS)
    pairs = EncodedLayers(
        *(jnp.asarray(x) for x in encoded[:3]), jnp.moveaxis(jnp.asarray(encoded.sizes), 1, 0)
    )
    mapped = jax.vmap(distance)(pairs, jax.tree.map(lambda x: jnp.roll(x, 1, 0), pairs))
    np.testing.assert_array_equal(mapped, np.diag(np.roll(distances, 1, 1)))


def test_x64_and_strict_promotion(x64, sequences, distances):
    with jax.numpy_dtype_promotion("strict"):
        np.testing.assert_array_equal(pairwise(sequences[:5], block=4), distances[:5, :5])


def test_named_costs():
    net = read_layer_string("C(64,3,1) P(2,2) SM(10)")
    wider = read_layer_string("C(256,3,1) P(2,2) SM(10)")
    assert pairwise([net], [net, wider, net[1:], ()]).tolist() == [[0, 0.25, 1, 2]]
    free = EditCosts(families={}, other=0.0)
    assert pairwise([net], [()], costs=free).item() == 0
    for bad in ({"families": {"dense": -1}}, {"other": float("nan")}, {"sizes": {"colour": 1}}):
        with pytest.raises(ValueError, match="got"):
            EditCosts(**bad)


def test_empty_sets_and_sequences():
    assert pairwise([]).shape == (0, 0)
    assert pairwise([()], []).shape == (1, 0)
    assert pairwise([()], [()]).tolist() == [[0]]


def test_sequence_kernel_compiles_once_a_shape(sequences):
    pairwise(sequences)
    before = _sequence_distance._block._cache_size()
    pairwise(random_sequences(0, 20))
    assert _sequence_distance._block._cache_size() == before


def test_sequence_kernel_lowers_for_every_platform(sequences):
    (encoded,) = encode_layers([sequences], COSTS)
    kernel = jax.export.export(_sequence_distance._block, platforms=("cpu", "cuda", "tpu"))
    assert kernel(encoded, encoded, 3, 3).platforms == ("cpu", "cuda", "tpu")


CELLS = [
    "|conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|conv_1x1~1|none~2|",
    "|conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|conv_3x3~1|none~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
]


def test_fixed_cells_are_compared_slot_by_slot():
    cells = [read_cell_string(text) for text in CELLS]
    matrix = pairwise(cells)
    assert_is_metric(matrix)
    assert matrix[0, 1] == round(0.125 * np.log2(3) * 1024) / 1024
    assert matrix[0, 2] == 1 + 0.25 + 0.75 + 1


def graph_reference(a, b):
    """The minimum over every partial matching of the nodes, in plain Python."""

    def edges(graph):
        found = {}
        for edge in graph.edges:
            key = edge.source, edge.target
            found[key] = (*found.get(key, ()), edge.layer or Layer("edge"))
        return found

    na, nb = len(a.nodes), len(b.nodes)
    ea, eb = edges(a), edges(b)
    best = float("inf")
    for image in itertools.permutations([*range(nb), *[None] * na], na):
        total = sum(
            layer_reference(a.nodes[i], None if j is None else b.nodes[j])
            for i, j in enumerate(image)
        )
        total += sum(layer_reference(None, b.nodes[j]) for j in range(nb) if j not in image)
        matched = {j: i for i, j in enumerate(image) if j is not None}
        for (i, k), content in ea.items():
            total += sequence_reference(content, eb.get((image[i], image[k]), ()))
        for (j, k), content in eb.items():
            if (matched.get(j), matched.get(k)) not in ea:
                total += sequence_reference((), content)
        best = min(best, total)
    return best


def random_graph(random, num_nodes):
    nodes = tuple(Layer(str(random.choice(KINDS[:3]))) for _ in range(num_nodes))
    edges = tuple(
        Edge(i, j, Layer("ReLU") if random.uniform() < 0.3 else None)
        for j in range(num_nodes)
        for i in range(j)
        for _ in range(random.integers(0, 3))
    )
    return Graph(nodes, edges)


def renumbered(graph, order):
    place = {node: i for i, node in enumerate(order)}
    return Graph(
        tuple(graph.nodes[i] for i in order),
        tuple(e._replace(source=place[e.source], target=place[e.target]) for e in graph.edges),
    )


@pytest.fixture(scope="module")
def graphs():
    random = np.random.default_rng(1)
    return [random_graph(random, n) for n in (0, 1, 2, 3, 3, 3)]


def test_graphs_agree_with_every_matching(graphs):
    matrix = pairwise(graphs)
    expected = [[graph_reference(a, b) for b in graphs] for a in graphs]
    np.testing.assert_array_equal(matrix, expected)
    assert_is_metric(matrix)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 1000))
def test_numbering_of_nodes_does_not_matter(order, seed):
    random = np.random.default_rng(seed)
    graph, other = random_graph(random, 6), random_graph(random, 5)
    assert graph_distance(graph, renumbered(graph, order)) == 0
    assert graph_distance(renumbered(graph, order), other) == graph_distance(other, graph)


def test_large_graphs_are_sequences_and_say_so():
    large = Graph(tuple(Layer("ReLU") for _ in range(13)), ())
    with pytest.warns(UserWarning, match="2 graphs are compared as sequences"):
        matrix = pairwise([large, large._replace(nodes=large.nodes[:-1]), (Layer("ReLU"),)])
    assert matrix[0].tolist() == [0, 0.25, 3]
    assert pairwise([large], [large], method="sequence").item() == 0
    with pytest.raises(ValueError, match="at most 12"):
        pairwise([large], method="nodes", b=[large])
    for method in ("slots", "nodes", "magic"):
        with pytest.raises(ValueError, match="expected"):
            pairwise([()], [()], method=method)


def test_twelve_nodes_take_seconds_at_most(data_folder):
    cells = {
        repr(run.architecture): run.architecture
        for run in read_open_logs(data_folder / "logs" / "nas_bench_nlp", "nas_bench_nlp").runs
        if isinstance(run.architecture, Graph) and len(run.architecture.nodes) == 12
    }
    found = list(cells.values())[:5]
    assert_is_metric(pairwise(found))
