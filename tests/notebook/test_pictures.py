"""Figures and sliders: what is shown, what is written, what is refused."""

import base64
import io
import re

import pytest
from matplotlib import pyplot as plt
from PIL import Image

from nnlib import notebook
from nnlib.notebook import pictures
from nnlib.plot.style import subplots
from tests.support import refuses


def plain():
    fig, ax = subplots(width=3, height=2)
    ax.plot([0, 1], [1, 0])
    return fig


def test_figure_is_shown_with_words_and_written_when_asked(tmp_path, shown):
    notebook.setup(figures_dir=str(tmp_path / "new"))
    notebook.figure(plain(), "loss", caption="The *loss* $\\eta < 1$ falls", alt="A falling line")
    markup = shown[0].data
    assert 'id="figure-loss"' in markup and 'aria-label="A falling line"' in markup
    assert (
        r'<em>loss</em> <span class="math notranslate nohighlight">\(\eta &lt; 1\)</span>' in markup
    )
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"loss.svg", "loss.png"}


def test_figure_files_are_equal_from_run_to_run(tmp_path, shown):
    contents = []
    for run in ("a", "b"):
        notebook.setup(figures_dir=str(tmp_path / run))
        notebook.figure(plain(), "loss", caption="c", alt="a")
        contents.append([p.read_bytes() for p in sorted((tmp_path / run).iterdir())])
    assert contents[0] == contents[1]


def test_name_of_a_figure_is_used_once(shown):
    notebook.figure(plain(), "loss", caption="c", alt="a")
    with refuses(ValueError, "name='loss' already names a figure"):
        notebook.figure(plain(), "loss", caption="c", alt="a")


def test_figures_for_nobody_are_held_to_the_same_and_not_drawn(monkeypatch, shown):
    monkeypatch.setenv(pictures.UNDRAWN, "yes")
    for draws in ("picture", "draw_frames"):
        monkeypatch.delattr(pictures, draws)
    fig = plain()
    notebook.figure(fig, "loss", caption="c", alt="a", hero=True)
    assert not plt.fignum_exists(fig.number)
    with refuses(ValueError, "name='loss' already names a figure"):
        notebook.figure(plain(), "loss", caption="c", alt="a")
    walk = {"label": "l", "caption": "c", "alt": "a"}
    notebook.scrub([plain(), plain()], "walk", hero=True, **walk)
    with refuses(ValueError, "needs two frames or more"):
        notebook.scrub([plain()], "one", **walk)
    assert shown == []


def test_the_hero_carries_a_card_for_previews(monkeypatch):
    outputs = []
    monkeypatch.setattr(pictures, "display", lambda bundle, **told: outputs.append(bundle))
    notebook.figure(plain(), "loss", caption="c", alt="a", hero=True)
    notebook.scrub([plain(), plain()], "walk", label="l", caption="c", alt="a", hero=True)
    assert 'id="figure-loss"' in outputs[0]["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in outputs[1]
    for bundle in outputs:
        card = base64.b64decode(bundle["image/png"])
        picture = Image.open(io.BytesIO(card))
        assert picture.size == (1200, 630) and len(card) <= 60_000
        assert picture.convert("RGB").getpixel((3, 3)) == (255, 255, 255)


def test_a_picture_that_is_no_hero_carries_no_card(shown):
    notebook.figure(plain(), "loss", caption="c", alt="a")
    assert not isinstance(shown[0], dict)


def test_slider_and_play_button_move_the_stack_without_a_kernel(shown):
    notebook.scrub([plain() for _ in range(3)], "walk", label="step", caption="c", alt="a")
    box = shown[0]
    (play, slider), stack = box.children[0].children, box.children[1]
    assert "nn-slider" in box._dom_classes
    assert len(stack.children) == 3 and all("<svg" in child.value for child in stack.children)
    assert slider.options == (("1", 0), ("2", 1), ("3", 2)) and play.max == 2


def test_slider_frames_share_no_id(shown):
    notebook.scrub([plain(), plain()], "walk", label="step", caption="c", alt="a")
    frames = [re.findall(r" id='([^']+)'", child.value) for child in shown[0].children[1].children]
    assert frames[0] and not set(frames[0]) & set(frames[1])


@pytest.mark.parametrize(
    ("frames", "values", "message"),
    [(1, None, "needs two frames or more"), (3, [1, 2], "got 3 frames and 2 values")],
)
def test_slider_needs_frames_and_a_value_for_each(shown, frames, values, message):
    with refuses(ValueError, message):
        notebook.scrub(
            [plain() for _ in range(frames)], "w", label="l", caption="c", alt="a", values=values
        )


def test_slider_that_is_too_heavy_is_refused(shown, monkeypatch):
    monkeypatch.setattr(pictures, "SLIDER_BYTES", 1000)
    with refuses(ValueError, "at most 1000: draw less"):
        notebook.scrub([plain(), plain()], "w", label="l", caption="c", alt="a")
