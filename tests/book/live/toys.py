"""Live models whose answers are known: one for each input, and each way to run a model."""

import torch
from torch import nn

from nnlib.live import (
    Bars,
    Cart,
    Corrects,
    Curve,
    Cuts,
    Damage,
    DrawingPad,
    HeatMap,
    Links,
    Numbers,
    Once,
    Picture,
    Pieces,
    Plane,
    Point,
    Repeats,
    Sliders,
    Text,
    TextField,
    Translates,
    Writes,
)

PAGE = """<!doctype html><html lang="en" data-theme="light" data-content_root="./">
<meta charset="utf-8"><title>t</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="book.css"><link rel="stylesheet" href="figures.css">
<link rel="stylesheet" href="live.css">
<style>html {{ background: var(--pst-color-background); color: var(--pst-color-text-base) }}
* {{ box-sizing: border-box }}</style>
<script src="live.js" defer></script>
<main><article class="bd-article"><h1>Live</h1>{}
<p id="after" style="margin-bottom: 2000px">After it.</p></article></main>"""
LETTERS = "abc "
SMALL = 4  # pixels of the pad


class Ink(nn.Module):
    """Says on which half of a picture there is more ink."""

    def forward(self, x):
        halves = x.view(-1, SMALL, SMALL)
        return 3 * torch.stack([halves[..., :2].sum((1, 2)), halves[..., 2:].sum((1, 2))], 1)


class After(nn.Module):
    """Guesses the letter after the last one; its state counts what it has read."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", 30 * torch.eye(4).roll(1, 1))

    def forward(self, letter, state):
        return self.table[letter], state + 1


class Copies(nn.Module):
    """Writes what it read, and looks at what it copies."""

    def forward(self, x, before):
        steps = before.shape[1]
        weights = torch.eye(6)[None, :steps] + 0.0 * before[..., None]
        return nn.functional.one_hot(x[:, :steps], 4).float(), weights


class Heals(nn.Module):
    """Brings each value a tenth nearer to 1."""

    def forward(self, x):
        return x + 0.1 * (1 - x)


class Grows(nn.Module):
    """Brings its first channel a tenth nearer to its second one, which only damage changes."""

    def forward(self, x):
        leaf = x[:, 0] + 0.1 * (x[:, 1] - x[:, 0])
        return torch.stack([leaf, x[:, 1]], 1), leaf


class Chosen(nn.Module):
    """Goes half of the way to ink or to paper, as is chosen, and says how much ink there was."""

    def forward(self, x, choice):
        return (x + choice @ torch.tensor([[1.0], [0.0]])) / 2, x.sum()[None]


class Rolls(nn.Module):
    """A cart on ice, with no weight on its pole: both go on as they were pushed."""

    def forward(self, state):
        drift = torch.stack([state[:, 1], 0 * state[:, 1], state[:, 3], 0 * state[:, 3]], 1)
        return state + 0.01 * drift, state[:, 2:] * torch.tensor([-1.0, 0.0])


class Spot(nn.Module):
    """Draws a blot where the point is."""

    def forward(self, z):
        side = torch.linspace(-2, 2, 4)
        away = (side - z[:, :1])[:, None] ** 2 + (side + z[:, 1:])[:, :, None] ** 2
        return torch.exp(-away)


class Friends(nn.Module):
    """Counts the edges of a graph and its triangles, and says who has a friend in common."""

    def forward(self, joined):
        twice = joined @ joined
        count = torch.stack([joined.sum() / 2, (twice @ joined).diagonal().sum() / 6])
        return count, twice.clamp(max=1)


class Wave(nn.Module):
    def forward(self, x):
        return torch.sin(x[:, :1] * torch.arange(8.0))


class Gap(nn.Module):
    """Fills every place with the letter before it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", 10 * torch.eye(5))

    def forward(self, ids):
        return self.table[ids.roll(1, 1)]


class Leans(nn.Module):
    """Gives the letters of "abc" the shares 0.6, 0.3 and 0.1 at any place."""

    def forward(self, ids):
        shares = torch.tensor([0.6, 0.3, 0.1, 1e-9])
        return shares.log() + 0.0 * ids[..., None]


def corrected(points, classes):
    """Apply the perceptron's rule, as the page does."""
    w, count = torch.zeros(3), 0
    for _ in range(100):
        for (x, y), kind in zip(points.tolist(), classes.tolist(), strict=True):
            error = kind - int(w[0] * x + w[1] * y + w[2] >= 0)
            w, count = w + error * torch.tensor([x, y, 1.0]), count + abs(error)
    return w.tolist(), count


class Merges:
    """A vocabulary: t and h are one token, and so are both with e."""

    merges = ((b"t", b"h"), (b"th", b"e"), (b" ", b"the"))
    pattern = r" ?\p{L}+|[^\s\p{L}]+|\s+(?!\S)|\s+"

    def tokens(self, text):
        """Cut as the page does, for what is tried here."""
        whole = text.replace(" the", "\0\1\0").replace("the", "\0\2\0").replace("th", "\0\3\0")
        named = {"\1": " the", "\2": "the", "\3": "th"}
        parts = [part for part in whole.split("\0") if part]
        return [token for part in parts for token in
                ([named[part].encode()] if part in named else
                 [bytes([byte]) for byte in part.encode()])]  # fmt: skip


class Bytes:
    """A vocabulary without merges."""

    merges = ()
    pattern = Merges.pattern

    def tokens(self, text):
        """Return the bytes, each alone."""
        return [bytes([byte]) for byte in text.encode()]


pad = DrawingPad(
    label="A blot", size=SMALL, pen=1, box=(SMALL, SMALL / 2), squeeze=2,
    examples={"left": torch.eye(4)[0].expand(4, 4), "right": torch.eye(4)[3].expand(4, 4)},
)  # fmt: skip
word = TextField(
    label="A word", letters=LETTERS, length=8, keep="last",
    examples={"the third": "c", "the first": "a", "the second": "b"},
)  # fmt: skip
read = TextField(label="To copy", letters=LETTERS, length=6, pad=0)
gaps = TextField(label="A word with a gap", letters=["", *"abc", "_"], length=5, pad=0, blank="_")
passage = TextField(label="A text", letters=None, length=12)
photo = Damage(label="A picture", shape=(4, 4))
alive = Damage(
    label="A leaf", shape=(4, 4), channels=2, feed=(1, 2, 4, 4),
    examples={"bud": torch.stack([torch.zeros(4, 4), torch.ones(4, 4)])},
)  # fmt: skip
either = Damage(
    label="Another picture", shape=(4, 4), choices=("ink", "paper"), choice_label="Goes to",
    examples={"full": torch.ones(4, 4)},
)  # fmt: skip
rolling = Cart(label="A pole", push=1.0, examples={"upright": [0.0, 0.0, 0.0, 0.0]})
friends = Links(
    label="Friends", names="ABCD",
    examples={"nobody": [], "a triangle": [(0, 1), (1, 2), (0, 2)]},
)  # fmt: skip
wind = Sliders(label="Weather", ranges={"wind": (0, 2, 0.5)})
spot = Point(
    label="A code", reach=2.0, cloud=[(1.0, 1.0, "a"), (-1.5, 0.5, "b"), (5.0, 0.0, "c")],
    examples={"middle": (0.0, 0.0), "corner": (2.0, -2.0)},
)  # fmt: skip
plane = Plane(
    label="Points", classes=("circle", "square"),
    examples={"apart": [(-0.5, -0.5, 0), (0.5, 0.5, 1)], "one of each at one place":
              [(0.5, 0.5, 0), (0.5, 0.5, 1)]},
)  # fmt: skip
writes = Writes(letters=LETTERS, stop=3, most=12, temperature=0.0, state=torch.zeros(1, 1))
FORMS = {
    "pad": (Ink(), pad, [Bars(names=["left", "right"])], Once(), torch.eye(4)[0].expand(4, 4)),
    "writes": (After(), word, [Text(), Bars(names=LETTERS, top=2)], writes, "a"),
    "copies": (
        Copies(), read, [Text(joined=False), HeatMap(label="Where it looks")],
        Translates(symbols=LETTERS, steps=3), "abc",
    ),
    "nucleus": (
        Leans(), TextField(label="A word", letters=LETTERS, length=3, keep="last"),
        [Text(), Bars(names=LETTERS)], Writes(letters=LETTERS, most=30, top_p=0.9), "a",
    ),
    "gap": (Gap(), gaps, [Text(fill=gaps.letters), Bars(names=gaps.letters)], Once(), "b_"),
    "heals": (Heals(), photo, [Picture(shape=(4, 4))], Repeats(), torch.ones(4, 4)),
    "grows": (
        Grows(), alive, [Picture(of=1, shape=(4, 4))], Repeats(per_second=50, alive=True, steps=3),
        alive.examples["bud"],
    ),
    "chosen": (
        Chosen(), either, [Curve(label="Ink", of=1, trail=8)], Repeats(still=True, steps=2),
        torch.zeros(4, 4),
    ),
    "rolls": (
        Rolls(), rolling, [Bars(names=["left", "right"], of=1)], Repeats(steps=1), [0.2, 0, 0.0, 0],
    ),
    "friends": (
        Friends(), friends,
        [Numbers(names=["edges", "triangles"]), HeatMap(label="A friend in common")],
        Once(), [(0, 1), (1, 3)],
    ),
    "wave": (Wave(), wind, [Curve(label="wave")], Once(), [0.5]),
    "spot": (Spot(), spot, [Picture(shape=(4, 4))], Once(), (0.5, 0.0)),
    "cuts": (None, passage, [Pieces(label="some"), Pieces(label="none", of=1)],
             Cuts(tokenizers={"some": Merges(), "none": Bytes()}), "the th"),
    "line": (None, plane, [Text(joined=False)], Corrects(rule=corrected), plane.examples["apart"]),
}  # fmt: skip
RULES = tuple(name for name, form in FORMS.items() if form[0] is None)  # no model is loaded


def values(name):
    """Return ten values of a form's input."""
    return {
        "pad": [torch.rand(4, 4) for _ in range(10)],
        "writes": ["a", "b", "c", "ab", "ba", "aa", "bb", "ca", "ac", "abab"],
        "copies": ["abc", "cab", "bbb", "aaa", "abca", "ccc", "bca", "acb", "cba", "ab"],
        "nucleus": ["a", "b", "c", "ab", "ba", "aa", "bb", "ca", "ac", "abab"],
        "gap": ["a_", "b_", "c_", "_a", "_", "ab_", "a_b", "cc_", "_cc", "bc_a"],
        "heals": [torch.rand(4, 4) for _ in range(10)],
        "grows": [torch.rand(2, 4, 4) for _ in range(10)],
        "chosen": [(name, torch.rand(4, 4)) for name in ("ink", "paper") for _ in range(5)],
        "rolls": [[at / 5, 0.1, -at / 9, 0.3] for at in range(10)],
        "friends": [[(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)][:at] for at in range(6)] * 2,
        "wave": [[at / 5] for at in range(10)],
        "spot": [(at / 5, -at / 10) for at in range(10)],
    }.get(name, [])
