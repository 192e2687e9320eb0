"""Every chapter has the sections, cells and pictures that readers have learned to expect.

Each failure names the chapter and what it lacks; CONTRIBUTING.md explains the parts.
"""

import ast
import re
import statistics
from dataclasses import dataclass
from functools import cache

import jupytext
import pytest

from pipeline import ROOT
from pipeline.checks import bootstrap
from pipeline.checks import equations as truth
from pipeline.execute import presets
from tests.book.references import cited, references

CHAPTERS = sorted(
    file.relative_to(ROOT / "chapters").with_suffix("").as_posix()
    for file in (ROOT / "chapters").glob("*/*.md")
    if file.stem != "index"
)
SECTIONS = [
    "In short",
    "Origin and intuition",
    "Inputs and outputs",
    "Architecture diagram",
    "How it computes",
    "Training objective",
    "Variants and refinements",
    "Practical considerations",
    "Real-world deployments",
    "Related architectures",
    "Check yourself",
    "References",
]
LEAD = "In short"
LEAD_ROWS = ["Use it when", "Think twice when", "Today instead", "To remember it"]
PARAMETERS = ["seed", "device", "steps", "batch_size", "figures_dir", "strict"]
SETUP = "setup(seed=seed, device=device, figures_dir=figures_dir, strict=strict)"
PROMISES = {"check", "band", "verdict"}
COLUMNS = 82  # what the box of a page holds, with room to spare


@dataclass(frozen=True)
class Cell:
    """A cell of a chapter, with the section it stands in and the calls that it makes."""

    kind: str
    tags: frozenset[str]
    source: str
    section: str
    calls: tuple[tuple[str, ast.Call], ...]

    def made(self, *names: str) -> list[ast.Call]:
        return [call for name, call in self.calls if name in names]


@cache
def cells(chapter: str) -> tuple[Cell, ...]:
    section, found = "", []
    for cell in jupytext.read(ROOT / "chapters" / f"{chapter}.md").cells:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^## +(.+?) *$", cell.source, re.M)
            found.append(Cell("markdown", frozenset(), cell.source, section, ()))
            section = headings[-1] if headings else section
        else:
            tags = frozenset(cell.metadata.get("tags", ()))
            found.append(Cell("code", tags, cell.source, section, _calls(cell.source)))
    return tuple(found)


def _calls(source: str) -> tuple[tuple[str, ast.Call], ...]:
    try:
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except SyntaxError as error:
        raise AssertionError(f"a code cell is no Python ({error}):\n{source}") from None
    names = [getattr(node.func, "attr", getattr(node.func, "id", "")) for node in nodes]
    return tuple(zip(names, nodes, strict=True))


def code(chapter):
    return [cell for cell in cells(chapter) if cell.kind == "code"]


def text(chapter):
    return "\n\n".join(cell.source for cell in cells(chapter) if cell.kind == "markdown")


def section(chapter, title):
    """Return the Markdown of a section."""
    found = re.search(rf"^## +{re.escape(title)} *$(.*?)(?=^## |\Z)", text(chapter), re.M | re.S)
    return found[1] if found else ""


def calls(chapter, *names):
    return [call for cell in code(chapter) for call in cell.made(*names)]


def keyword(call, name):
    return next((k.value for k in call.keywords if k.arg == name), None)


@cache
def labels():
    return {(eq.chapter, eq.label) for eq in truth.equations()}


def every_chapter(check):
    return pytest.mark.parametrize("chapter", CHAPTERS)(check)


@every_chapter
def test_sections_stand_in_order(chapter):
    got = re.findall(r"^## +(.+?) *$", text(chapter), re.M)
    missing = [title for title in SECTIONS if title not in got]
    extra = [title for title in got if title not in SECTIONS]
    assert not missing, f"{chapter} lacks the sections {missing}"
    assert not extra, f"{chapter} has sections of its own, make them ### ones: {extra}"
    assert got == SECTIONS, f"{chapter} has its sections in another order: {got}"


@every_chapter
def test_it_opens_with_title_and_idea(chapter):
    opening = text(chapter).split("\n## ")[0]
    assert len(re.findall(r"^# ", text(chapter), re.M)) == 1, f"{chapter} needs one `# Title`"
    assert re.search(r"^# .+\n+\*\*.+\*\*$", opening, re.M), f"{chapter}: **one-sentence idea**"


@every_chapter
def test_its_lead_stands_alone(chapter):
    lead = section(chapter, LEAD)
    missing = [row for row in LEAD_ROWS if f"\n| **{row}** | " not in lead]
    assert not missing, f"{chapter}: the table of `## {LEAD}` lacks the rows {missing}"
    prose = re.sub(r"\$\$.*?\$\$(?: \([\w-]+\))?|^\|.*$", "", lead, flags=re.M | re.S)
    words = len(prose.split())
    assert 100 <= words <= 300, f"{chapter}: `## {LEAD}` has {words} words, an entry has 100–300"
    assert "$$" in lead or "{eq}`" in lead, f"{chapter}: `## {LEAD}` has no defining equation"


@every_chapter
def test_its_lead_has_code_to_paste(chapter):
    inside = [cell for cell in code(chapter) if cell.section == LEAD]
    shown = [cell.source for cell in inside if "hide-input" not in cell.tags]
    assert len(shown) == 1, f"{chapter}: `## {LEAD}` has {len(shown)} shown cells, not one"
    lines = [line for line in shown[0].splitlines() if line.strip()]
    assert 3 <= len(lines) <= 9, f"{chapter}: the lead's code has {len(lines)} lines, not 3–9"
    imported = any(line.startswith(("import ", "from nnlib.")) for line in lines)
    assert imported, f"{chapter}: the lead's code imports nothing, so it cannot be pasted"


@every_chapter
def test_its_first_cells_are_the_standard_ones(chapter):
    first = code(chapter)[0]
    told = f"{chapter}: the first cell is not the template's; `make sync` writes it"
    assert first.source == bootstrap.cell(), told
    assert first.tags == {"remove-cell"}, f"{chapter}: the bootstrap cell is tagged {first.tags}"
    assert "parameters" in code(chapter)[1].tags, f"{chapter}: the second cell holds the parameters"
    calls_setup = [SETUP in " ".join(cell.source.split()) for cell in code(chapter)[:4]]
    assert any(calls_setup), f"{chapter}: the imports end with `notebook.{SETUP}`"


@every_chapter
def test_its_parameters_have_the_standard_names(chapter):
    sources = [cell.source for cell in code(chapter) if "parameters" in cell.tags]
    assert len(sources) == 1, f"{chapter} needs exactly one cell tagged parameters"
    names = [node.targets[0].id for node in ast.parse(sources[0]).body if hasattr(node, "targets")]
    missing = [name for name in PARAMETERS if name not in names]
    assert not missing, f"{chapter} lacks the parameters {missing}"


@every_chapter
def test_it_shows_its_card(chapter):
    shown = [ast.literal_eval(call.args[0]) for call in calls(chapter, "card")]
    assert shown == [chapter.split("/")[1]], f"{chapter} shows the cards {shown}"
    [place] = [cell.section for cell in code(chapter) if cell.made("card")]
    assert place == LEAD, f"{chapter}: card(…) stands at the end of `## {LEAD}`"


@every_chapter
def test_pictures_have_a_stable_name_a_caption_and_words(chapter):
    figures, sliders = calls(chapter, "figure"), calls(chapter, "scrub")
    assert figures, f"{chapter} has no figure(…)"
    assert sliders, f"{chapter} has no slider, scrub(…)"
    names = []
    for call in [*figures, *sliders]:
        name = keyword(call, "name") or (call.args[1] if len(call.args) > 1 else None)
        assert isinstance(name, ast.Constant), f"{chapter}: {ast.unparse(call)[:60]}… needs a name"
        names.append(name.value)
        missing = [word for word in ("caption", "alt") if keyword(call, word) is None]
        assert not missing, f"{chapter}: the picture {name.value!r} lacks {missing}"
        raw = "](" in ast.unparse(keyword(call, "caption"))
        assert not raw, f"{chapter}: the caption of {name.value!r} shows its link as typed"
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"{chapter} uses picture names twice: {twice}"


@every_chapter
def test_one_picture_stands_for_it(chapter):
    pictures = calls(chapter, "figure", "scrub")
    heroes = [ast.unparse(call)[:60] for call in pictures if keyword(call, "hero")]
    assert len(heroes) == 1, f"{chapter}: exactly one picture is its hero=True, not {heroes}"


LIVE_WORDS = ["What to try", "What to notice", "How to make it fail"]
LIVE_PARTS = ["name", "title", "example", "caption"]


@every_chapter
def test_a_live_model_says_what_to_try_and_how_to_make_it_fail(chapter):
    for call in calls(chapter, "live"):
        missing = [part for part in LIVE_PARTS if keyword(call, part) is None]
        ruled = isinstance(call.args[0], ast.Constant)  # None: its rule stands in the page
        missing += ["records"] if not ruled and keyword(call, "records") is None else []
        assert not missing, f"{chapter}: its live model lacks {missing}"
    parts = re.split(r"^(?=##)", text(chapter), flags=re.M)
    tried = [part for part in parts if part.startswith("### Try it: ")]
    assert len(tried) == len(calls(chapter, "live")), (
        f"{chapter}: a live model stands under a heading of its own, `### Try it: draw a digit`"
    )
    for part in tried:
        silent = [words for words in LIVE_WORDS if f"**{words}.** " not in part]
        assert not silent, f"{chapter}: {part.splitlines()[0]} does not say {silent}"


@every_chapter
def test_it_shows_source_and_keeps_promises(chapter):
    missing = [name for name in ("show_source", "check", "band") if not calls(chapter, name)]
    assert not missing, f"{chapter} never calls {missing}"
    with_baseline = [call for call in calls(chapter, "band") if keyword(call, "baseline")]
    assert with_baseline, f"{chapter} has no band(…, baseline=…): what must the result beat?"
    last = code(chapter)[-1]
    assert last.made("verdict"), f"{chapter}: the last code cell is `verdict()`"


@every_chapter
def test_cells_that_promise_are_compared(chapter):
    loose = [c.source for c in code(chapter) if c.made(*PROMISES) and not _compared(c)]
    assert not loose, f"{chapter}: tag with nbval-check-output:\n\n" + "\n\n".join(loose)


def _compared(cell):
    return "nbval-check-output" in cell.tags


@every_chapter
def test_questions_and_exercises_have_answers(chapter):
    events = []
    for cell in cells(chapter):
        if cell.kind == "markdown":
            marks = r"^\*\*(Question|Exercise) (\d+)\.\*\*|^:::+\{dropdown\} (Answer)"
            found = re.finditer(marks, cell.source, re.M)
            events += [(m[1] or m[3], int(m[2] or 0)) for m in found]
        elif "hide-input" in cell.tags and cell.made("check", "band"):
            events.append(("Solution", 0))
    for kind, answer, least, most in (
        ("Question", "Answer", 4, 7),
        ("Exercise", "Solution", 3, 6),
    ):
        numbers = [number for what, number in events if what == kind]
        wanted = list(range(1, len(numbers) + 1))
        assert least <= len(numbers) <= most and numbers == wanted, (
            f"{chapter} needs {least}–{most} `**{kind} 1.** …` in order, it has {numbers}"
        )
        bare = [
            number
            for (what, number), following in zip(events, [*events[1:], ("", 0)], strict=True)
            if what == kind and following[0] != answer
        ]
        folded = {
            "Question": "followed by `:::{dropdown} Answer`",
            "Exercise": "followed by a code cell tagged hide-input that ends with check(…)",
        }
        assert not bare, f"{chapter}: {kind} {bare} must be {folded[kind]}"


@every_chapter
def test_it_states_equations(chapter):
    stated = [label for where, label in labels() if where == chapter and label]
    assert stated, f"{chapter} states no labelled equation"


@every_chapter
def test_citations_stand_in_the_bibliography(chapter):
    works = cited(text(chapter))
    assert works, f"{chapter} cites nothing"
    lost = sorted(works - references().keys())
    assert not lost, f"{chapter} cites {lost}, which no references.bib has"
    deployments = section(chapter, "Real-world deployments")
    assert "{cite" in deployments, f"{chapter}: Real-world deployments name no source"


@every_chapter
def test_references_are_listed(chapter):
    wanted = "```{bibliography}\n:filter: docname in docnames\n```"
    got = section(chapter, "References").strip()
    assert got == wanted, f"{chapter}: References must hold\n{wanted}\nit holds\n{got}"


@every_chapter
def test_relatives_are_linked(chapter):
    related = section(chapter, "Related architectures")
    links = re.findall(r"\]\(([\w./-]+\.md)(?:#[\w-]+)?\)", related)
    assert links, f"{chapter}: Related architectures links to no chapter, as [GRU](gru.md)"
    folder = (ROOT / "chapters" / chapter).parent
    lost = [link for link in links if not (folder / link).resolve().is_file()]
    assert not lost, f"{chapter} links to {lost}, which do not exist (yet)"


@every_chapter
def test_code_cells_are_short(chapter):
    lengths = [len([line for line in c.source.splitlines() if line.strip()]) for c in code(chapter)]
    median = statistics.median(lengths)
    assert median <= 10, f"{chapter}: the median code cell has {median} lines, at most 10"


@every_chapter
def test_code_shows_whole(chapter):
    """The first cell is the bootstrap, which the page leaves out."""
    lines = [line for cell in code(chapter)[1:] for line in cell.source.splitlines()]
    long = [f"{len(line)} columns: {line.strip()}" for line in lines if len(line) > COLUMNS]
    assert not long, f"{chapter} has code over {COLUMNS} columns\n" + "\n".join(long)


@every_chapter
def test_prose_has_a_sentence_a_line(chapter):
    prose = (ROOT / "chapters" / f"{chapter}.md").read_text(encoding="utf-8").splitlines()
    long = [
        f"line {number}: {len(line)} characters"
        for number, line in enumerate(prose, 1)
        if len(line) > 240 and not line.lstrip().startswith(("|", "$$"))
    ]
    assert not long, f"{chapter} has lines over 240 characters\n" + "\n".join(long)


@every_chapter
def test_folds_end_in_the_cell_that_begins_them(chapter):
    """A code cell between `:::{dropdown}` and `:::` would hide the section after it."""
    for cell in cells(chapter):
        if cell.kind == "markdown":
            begun = re.findall(r"^:{3,}\{\w+\}.*$", cell.source, re.M)
            ended = re.findall(r"^:{3,} *$", cell.source, re.M)
            assert len(begun) == len(ended), f"{chapter}, {cell.section}: {begun} stays open"


@every_chapter
def test_nothing_is_left_to_do(chapter):
    marker = re.compile(r"\b(TODO|FIXME|XXX|TBD)\b|\blorem ipsum\b|\bplaceholder text\b", re.I)
    page, beside = ROOT / "chapters" / f"{chapter}.md", ROOT / presets.place(chapter)
    heading, left = "opening", []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        heading = line[3:] if line.startswith("## ") else heading
        if marker.search(line):
            left.append(f"line {number}, {heading}: {line.strip()}")
    if beside.exists():
        lines = beside.read_text(encoding="utf-8").splitlines()
        left += [f"{beside.name}: {line}" for line in lines if marker.search(line)]
    assert not left, f"{chapter} has work left\n" + "\n".join(left)
