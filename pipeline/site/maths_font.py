"""The font of the maths: STIX Two Math, cut to what TeX can ask for and tuned for browsers.

`vendor` makes it. The letters are left as they are. What is tuned are the widths of what stretches
(Chromium keeps as much room for a parenthesis as its tallest variant needs), the primes, which
stand in a superscript here, and a few distances: fractions within a line of text are lower.
"""

import io
from typing import Any

from fontTools import subset
from fontTools.pens.transformPen import TransformPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont

# Letters and digits, accents, Greek, punctuation, letter-like signs, arrows, operators, delimiters,
# shapes; then bold, italic, script, fraktur, double-struck, and bold and italic Greek.
GLYPHS = """
20-7E A0 A7 A8 AC AF B0 B1 B4 B6 B7 D7 F7 131 237 2C6 2C7 2C9-2CB 2D8-2DC
300-308 30A 30C 331 332 338 20D0 20D1 20D6 20D7 20DB 20DC 20E1 20EE 20EF
391-3A9 3B1-3C9 3D1 3D5 3D6 3DC 3DD 3F0 3F1 3F4 3F5
2010-2016 2018-201E 2020-2022 2026 2032-2037 203E 2044 2057 2061-2064
2102 2107 210A-2115 2118-211D 2124-2128 212B-2131 2133-2138 213C-2140 2145-2149 214B
2190-21AE 21B0 21B1 21B6 21B7 21BA-21DB 21E0 21E2 27F5-27FF
2200-22FF 2A00-2A06 2A0C 2A2F 2A3F 2A5E 2A7D-2A80 2A85-2A98 2AAF-2AB6 2AB9 2ABA 2AC5 2AC6 2ACB 2ACC
2308-230B 2322 2323 239B-23B1 23B4 23B5 23DC-23E1 27E6-27EB 27EE 27EF 2983-2986
25A0 25A1 25AA 25AB 25B2 25B3 25B6-25B9 25BC-25C3 25C6 25C7 25CA 25CB 25CF 25E6 25EF 29EB
2605 2606 2660-2667 266D-266F 2713 27C2 27CB 27CD
FE00 1D400-1D537 1D538-1D56B 1D6A4-1D7E1
"""
SANS_AND_TYPEWRITER = "1D5A0-1D6A3 1D7E2-1D7FF"  # rare, so in a file of its own

PRIMES = (0x2032, 0x2033, 0x2034, 0x2057)
FENCES = "()[]{}⟨⟩⌈⌉⌊⌋"
TALLEST = 2200  # a taller fence is put together of pieces
WIDEST = 440  # so much room for a fence, in thousandths of the type's size
RADICAL = 860
CONSTANTS = {
    "AccentBaseHeight": 425,
    "FractionNumeratorShiftUp": 430,
    "FractionDenominatorShiftDown": 400,
    # For one letter as for a row of them: TeX lets only what is tall push its scripts away.
    "SubscriptBaselineDropMin": -40,
    "SuperscriptBaselineDropMax": 386,
}


def cut(content: bytes) -> bytes:
    """Return the font that pages with maths load, as WOFF2, from the whole one."""
    font = TTFont(io.BytesIO(content), recalcTimestamp=False)
    _tune(font)
    return _cut(font, GLYPHS)


def cut_rare(content: bytes) -> bytes:
    """Return a font of sans-serif and typewriter letters alone."""
    return _cut(TTFont(io.BytesIO(content), recalcTimestamp=False), SANS_AND_TYPEWRITER)


def _cut(font: TTFont, glyphs: str) -> bytes:
    """Keep these glyphs and all that they stretch to."""
    options = subset.Options(
        flavor="woff2", hinting=False, layout_features=["ccmp", "locl", "kern"]
    )
    options.name_IDs = [0, 1, 2, 5, 13, 14]
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=_numbers(glyphs))
    cutter.subset(font)
    font.flavor = "woff2"
    held = io.BytesIO()
    font.save(held)
    return held.getvalue()


def _numbers(glyphs: str) -> list[int]:
    found: list[int] = []
    for word in glyphs.split():
        first, _, last = word.partition("-")
        found += range(int(first, 16), int(last or first, 16) + 1)
    return found


def _tune(font: TTFont) -> None:
    table = font["MATH"].table
    for name, value in CONSTANTS.items():
        getattr(table.MathConstants, name).Value = value
    names = font.getBestCmap()
    # A superscript is drawn at `scale`, and raised: afterwards the prime is where it was.
    scale = table.MathConstants.ScriptPercentScaleDown / 100
    raised = table.MathConstants.SuperscriptShiftUp.Value
    for prime in PRIMES:
        _move(font, names[prime], (1 / scale, 0, 0, 1 / scale, 0, -raised / scale))
        _set_advance(font, names[prime], 1 / scale)
    variants = table.MathVariants
    vertical = dict(
        zip(variants.VertGlyphCoverage.glyphs, variants.VertGlyphConstruction, strict=True)
    )
    moved: set[str] = set()
    for fence in FENCES:
        _narrow_fence(font, vertical[names[ord(fence)]], moved)
    _narrow_radical(font, vertical[names[ord("√")]])


def _narrow_fence(font: TTFont, fence: Any, moved: set[str]) -> None:
    """Drop the tallest variants where pieces can stand for them; let wide ones overhang."""
    records = fence.MathGlyphVariantRecord
    pieces = [part.glyph for part in fence.GlyphAssembly.PartRecords] if fence.GlyphAssembly else []
    if pieces:
        records[:] = [record for record in records if record.AdvanceMeasurement <= TALLEST]
        fence.VariantCount = len(records)
    for name in {*(record.VariantGlyph for record in records), *pieces} - moved:
        width, _ = font["hmtx"][name]
        if width > WIDEST:
            _move(font, name, (1, 0, 0, 1, (WIDEST - width) / 2, 0))
            _set_advance(font, name, WIDEST / width)
        moved.add(name)


def _narrow_radical(font: TTFont, radical: Any) -> None:
    """Make tall radicals as narrow as low ones, as TeX's are."""
    names = [record.VariantGlyph for record in radical.MathGlyphVariantRecord]
    pieces = [part.glyph for part in radical.GlyphAssembly.PartRecords]
    for name in {*names, *pieces}:
        width, _ = font["hmtx"][name]
        if width > RADICAL:
            _move(font, name, (RADICAL / width, 0, 0, 1, 0, 0))
            _set_advance(font, name, RADICAL / width)


def _move(font: TTFont, name: str, by: tuple[float, ...]) -> None:
    glyphs = font.getGlyphSet()
    pen = TTGlyphPen(glyphs)
    glyphs[name].draw(TransformPen(pen, by))
    font["glyf"][name] = pen.glyph()


def _set_advance(font: TTFont, name: str, factor: float) -> None:
    glyph = font["glyf"][name]
    glyph.recalcBounds(font["glyf"])
    font["hmtx"][name] = (round(font["hmtx"][name][0] * factor), glyph.xMin)
