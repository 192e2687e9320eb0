"""Write the named figures of the chapters as SVG and PNG, at any size of run.

python -m pipeline.execute.figures foundations/optimizers --set "steps=50" --preset gpu
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from pipeline import ROOT
from pipeline.execute import presets, run_chapter
from pipeline.execute.dependencies import chapters
from pipeline.execute.parameters import BadParameter, cells_of, checked, split


def draw(chapter: str, given: dict[str, Any], root: Path = ROOT) -> bool:
    """Run one chapter with its figures on; print the files and the promises that did not hold."""
    folder = root / "_build" / "figures" / chapter
    for old in [*folder.glob("*.svg"), *folder.glob("*.png")]:
        old.unlink()
    ours = {"figures_dir": str(folder), "strict": False}
    values = given | {name: value for name, value in ours.items() if name not in given}
    try:
        record = run_chapter.run(chapter, values, root=root)
    except run_chapter.ChapterError as error:
        print(f"✗ {error}", flush=True)
        return False
    print(f"✓ {chapter}  {record['wall_seconds']:.1f} s", flush=True)
    folder = Path(record["parameters"]["figures_dir"])
    for file in sorted([*folder.glob("*.svg"), *folder.glob("*.png")]):
        shown = file.relative_to(root) if file.is_relative_to(root) else file
        print(f"    {shown}")
    for claim in record["broken"]:
        print(f"    did not hold: {claim}")
    if record["bands"] and not record["broken"]:
        print(f"    all {len(record['bands'])} bands held")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the figures of the chapters.")
    parser.add_argument("chapters", nargs="*", help="family/name; all when none is given")
    parser.add_argument("--set", default="", help="parameters: 'steps=50 device=cuda'")
    parser.add_argument("--preset", default="", help="a preset, such as gpu")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    args = parser.parse_args()
    root = args.root.resolve()
    wanted = args.chapters or chapters(root)
    try:
        given = split(args.set)
        blocks = presets.load(args.preset, root) if args.preset else {}
        for chapter in wanted:  # a slip in the last must not show after the first has run
            checked(chapter, cells_of(run_chapter.find(chapter, root)), given)
        drawn = []
        for chapter in wanted:
            if args.preset and chapter not in blocks:
                print(f"  {args.preset} has nothing for {chapter}: its own defaults hold")
            drawn.append(draw(chapter, presets.values(blocks, chapter) | given, root))
    except (run_chapter.ChapterError, BadParameter) as error:
        print(f"✗ {error}")
        return 1
    return 0 if all(drawn) else 1


if __name__ == "__main__":
    sys.exit(main())
