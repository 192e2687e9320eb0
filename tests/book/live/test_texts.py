"""Texts that go on, that are translated, and that have gaps."""

import pytest


def test_it_writes_letter_by_letter_and_stops(opened):
    tab = opened()
    form = tab.form("writes")
    form.get_by_role("textbox").fill("a")
    tab.told("writes", "b, 100 %")
    form.get_by_role("button", name="One letter").click()
    tab.told("writes", "So far: “ab”")
    form.get_by_role("button", name="Write").click()
    tab.told("writes", "It wrote: “abc”")
    assert form.locator(".nn-text").inner_text() == "abc"
    state = "document.querySelector('#live-writes').nnForm"
    assert tab.page.evaluate(f"!!{state}")
    form.get_by_role("button", name="Write").click()  # begins anew
    tab.told("writes", "It wrote: “abc”")


def test_write_waits_until_the_text_is_read(opened):
    tab = opened()
    form = tab.form("writes")
    form.get_by_role("textbox").fill("c")
    tab.told("writes", "The model says")
    tab.page.evaluate(
        """() => {
          const form = document.querySelector("#live-writes");
          const field = form.querySelector("input[type=text]");
          field.value = "ab";
          field.dispatchEvent(new Event("input", { bubbles: true }));
          form.querySelector("[data-do=write]").click();
        }"""
    )
    tab.told("writes", "It wrote: “abc”")
    assert form.get_by_role("button", name="Stop").count() == 0


def test_a_warmer_letter_is_drawn_by_chance(opened):
    tab = opened()
    form = tab.form("writes")
    form.get_by_role("slider").fill("2")
    tab.told("writes", "The model says")
    assert form.locator("output").inner_text() == "2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "type a letter"),
        ("   ", "type a letter"),
        ("🙂7", "has never seen"),
        ("b" + "a" * 5000, "sees the last 8 letters only"),
        ("A<img src=x onerror=alert(1)>b", "has never seen"),
    ],
)
def test_nonsense_gets_a_plain_word(text, words, opened):
    tab = opened()
    tab.form("writes").get_by_role("textbox").fill(text)
    tab.told("writes", words)
    tab.form("writes").get_by_role("button", name="Write").click()
    tab.page.wait_for_timeout(100)
    assert tab.page.locator("#live-writes img").count() == 0


def test_a_translation_is_written_with_what_it_looks_at(opened):
    tab = opened()
    form = tab.form("copies")
    form.get_by_role("textbox").fill("bca")
    tab.told("copies", "It wrote bca")
    assert form.locator(".nn-text").inner_text() == "bca"
    rects = form.locator(".nn-heat rect")
    places = [(r.get_attribute("x"), r.get_attribute("y")) for r in rects.all()]
    assert places == [("18", "18"), ("30", "33"), ("42", "48")]


def test_the_map_keeps_its_room_while_it_is_written(opened):
    tab = opened()
    form = tab.form("copies")
    before = form.bounding_box()["height"]
    tab.page.evaluate(
        """() => {
          const figure = document.querySelector("#live-copies");
          const seen = (window.heights = new Set());
          new MutationObserver(() => seen.add(figure.getBoundingClientRect().height))
            .observe(figure, { childList: true, subtree: true });
        }"""
    )
    form.get_by_role("textbox").fill("bca")
    tab.told("copies", "It wrote bca")
    heights = tab.page.evaluate("[...heights]")
    assert heights and all(abs(height - before) < 1 for height in heights)


def test_a_letter_is_blanked_by_a_tap_and_given_back(opened):
    tab = opened()
    form = tab.form("gap")
    form.get_by_role("textbox").fill("abc")
    tab.told("gap", "Nothing is blank yet")
    form.get_by_role("button", name="Blank b").click()
    tab.told("gap", "aac; a, 100 %")
    assert form.locator("mark").inner_text() == "a"
    form.get_by_role("button", name="A blank: show the letter").click()
    assert form.get_by_role("textbox").input_value() == "abc"


def test_no_more_letters_are_offered_than_are_read(opened):
    tab = opened()
    form = tab.form("gap")
    form.get_by_role("textbox").fill("a_" + "b" * 500)
    tab.told("gap", "reads 5 letters at most")
    assert form.locator(".nn-letters button").count() == 5


def test_the_first_touch_may_be_a_letter(opened):
    tab = opened()
    tab.form("gap").get_by_role("button", name="Blank b").click()
    tab.told("gap", "The model says")
    assert tab.form("gap").get_by_role("textbox").input_value() == "__"


@pytest.mark.parametrize(
    ("text", "some", "none"),
    [
        ("the th", ["the", "␣", "th"], 6),
        ("a the", ["a", "␣the"], 5),
        ("thethe\u00a0t", ["the", "the", "‹c2›", "‹a0›", "t"], 9),
        ("é<b>", ["‹c3›", "‹a9›", "<", "b", ">"], 5),
        ("\U0001f642", ["‹f0›", "‹9f›", "‹99›", "‹82›"], 4),
    ],
)
def test_a_text_is_cut_by_the_merges_of_each_vocabulary(text, some, none, opened):
    tab = opened()
    form = tab.form("cuts")
    form.get_by_role("textbox").fill(text)
    tab.told("cuts", f"some: {len(some)} tokens; none: {none} tokens")
    shown = form.locator(".nn-pieces").first.locator("b").all_inner_texts()
    assert shown == some
    assert form.locator(".nn-pieces small").last.inner_text() == f"{none} tokens, 1.0 bytes each"


def test_a_long_text_is_cut_off_and_none_is_asked_for(opened):
    tab = opened()
    form = tab.form("cuts")
    form.get_by_role("textbox").fill("x" * 50)
    tab.told("cuts", "reads 12 letters at most")
    form.get_by_role("textbox").fill("")
    tab.told("cuts", "type a letter")


def test_bars_show_what_is_drawn_from_and_only_that_is_written(opened):
    tab = opened()
    form = tab.form("nucleus")
    form.get_by_role("textbox").fill("ab")

    def move(name, value):
        slider = form.locator(f"[data-do={name}]")
        slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", value)

    move("temperature", "1")
    move("top-p", "1")
    tab.told("nucleus", "a, 60 %")
    move("top-p", "0.8")  # of 0.6, 0.3 and 0.1
    tab.told("nucleus", "a, 67 %")
    move("top-p", "0.5")
    tab.told("nucleus", "a, 100 %")
    form.get_by_role("button", name="Write").click()
    tab.told("nucleus", f"It wrote: “ab{'a' * 30}”")
