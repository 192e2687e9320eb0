import pytest
import torch

from nnlib.live.inputs.links import Links


def links():
    return Links(label="A graph", names="ABCD")


def test_pairs_are_read_as_a_symmetric_matrix_and_maps_have_the_nodes_letters():
    (matrix,), context = links().read([(0, 1), (3, 1), (1, 0)])
    assert matrix.tolist() == [[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert context == {"given": "ABCD", "made": "ABCD"}
    assert torch.equal(links().read([])[0][0], torch.zeros(4, 4))


def test_each_pair_is_kept_once_in_order():
    assert links().plain([(3, 1), (0, 1), (1, 3)]) == [[0, 1], [1, 3]]


def test_what_is_no_pair_of_nodes_is_refused():
    with pytest.raises(ValueError, match=r"value\[0\]=\(2, 2\) must be two nodes of 0 … 3"):
        links().read([(2, 2)])
    with pytest.raises(ValueError, match=r"value\[1\]=\(0, 4\)"):
        links().read([(0, 1), (0, 4)])
    with pytest.raises(ValueError, match="names must be 2 … 12 nodes' letters, got 1"):
        Links(label="l", names="A")


def test_its_drawing_has_a_line_for_each_edge_and_a_button_for_each_node():
    body = links().body([(0, 2)])
    assert body.count("<line") == 1 and 'y1="-1.000"' in body and 'y2="1.000"' in body
    assert body.count("<circle") == body.count("<button") == 4
    assert links().config()["names"] == ["A", "B", "C", "D"]


def test_a_list_of_pairs_sets_it_in_a_notebook():
    listed, read, put = links().widget([(0, 1)])
    assert read() == [(0, 1)] and len(listed.options) == 6
    put([(2, 1), (0, 3)])
    assert sorted(read()) == [(0, 3), (1, 2)]
