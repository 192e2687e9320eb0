import re

import torch

from nnlib.live import drawing


def test_each_grey_value_stands_at_its_place():
    values = torch.tensor([[0.0, 1.0, 0.5], [0.5, 0.0, 2.0]])
    svg = drawing.pixels(values, "three <by> two")
    inks = dict(re.findall(r'fill-opacity="([\d.]+)" d="([^"]+)"', svg))
    assert inks == {"1": "M1 0h1v1h-1zM2 1h1v1h-1z", "0.5": "M2 0h1v1h-1zM0 1h1v1h-1z"}
    assert 'viewBox="0 0 3 2"' in svg and "three &lt;by&gt; two" in svg


def test_a_bar_is_as_long_as_its_share_and_a_blank_is_seen():
    rows = drawing.bar_rows([(" ", 0.25), ("<", 0.75)], best=1)
    assert re.findall(r"--v:([\d.]+)", rows) == ["0.2500", "0.7500"]
    assert "<b>␣</b>" in rows and "<b>&lt;</b>" in rows
    assert rows.index("data-best") > rows.index("␣")


def test_a_map_leaves_out_what_nobody_sees():
    svg = drawing.heat(torch.tensor([[0.9, 0.02], [0.0, 0.98]]), ["a", "b"], ["c", "d"])
    assert re.findall(r'<rect x="(\d+)" y="(\d+)"', svg) == [("18", "18"), ("30", "33")]
    assert re.findall(r">(\w)</text>", svg) == ["c", "d", "a", "b"]


def test_a_curve_runs_from_its_least_to_its_largest():
    points = re.search(r'points="([^"]+)"', drawing.curve([1.0, 3.0, 2.0], "y"))[1]
    assert points == "0.0,100.0 150.0,0.0 300.0,50.0"
    assert 'points="0.0,100.0"' in drawing.curve([5.0], "flat")
