"""Hear steps that run on other machines: each speaks into a file below `_build/said`.

Snakemake passes on what a step prints only when the step runs beside it. On a cluster the Snakefile
sends a step's words to its log instead, and from there they are read as they come.
"""

import queue
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

SECONDS = 2.0  # between two looks: the folder may lie on a network file system
LAST = 15  # lines of a log that are shown when a step died


def lines(process: subprocess.Popen, folder: Path, log: Path) -> Iterator[str]:
    """Yield the lines of a Snakemake's steps, here and elsewhere, until it ends.

    Args:
        process: the Snakemake.
        folder: where the steps speak that run elsewhere.
        log: where Snakemake itself speaks, of steps that died before they could.
    """
    here: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def listen() -> None:
        for line in process.stdout:
            here.put(line)
        here.put(None)

    threading.Thread(target=listen, daemon=True).start()
    read: dict[Path, int] = {}
    line: str | None = ""
    while line is not None:
        try:
            line = here.get(timeout=SECONDS)
        except queue.Empty:
            line = ""
        # First: what a step has waited for was said before it speaks.
        yield from _new(folder, read, to_the_end=line is None)
        if line:
            yield line
    yield from _deaths(folder, log)


def _new(folder: Path, read: dict[Path, int], to_the_end: bool) -> Iterator[str]:
    """Yield the whole lines that were written since the last look."""
    for file in sorted(folder.rglob("*.log")):
        at = read.get(file, 0)
        if file.stat().st_size <= at:
            continue
        with file.open("rb") as log:
            log.seek(at)
            content = log.read()
        if not to_the_end:
            content = content[: content.rfind(b"\n") + 1]
        read[file] = at + len(content)
        yield from content.decode("utf8", "replace").splitlines(keepends=True)


def _deaths(folder: Path, log: Path) -> Iterator[str]:
    """Tell of every step that failed and did not say so itself: out of time, memory, luck."""
    blocks = re.findall(
        r"^Error in rule (\w+):\n    message: (.*?)\n    jobid: (.*?)(?=^\[|\Z)",
        log.read_text("utf8", "replace"),
        re.MULTILINE | re.DOTALL,
    )
    for rule, message, block in blocks:
        # The plugin goes on with advice, and with the whole command.
        why = re.split(r" Detailed failure|For further error|\s+sbatch call:", message)[0]
        named = re.search(r"^    log: (.*?)(?: \(check .*)?$", block, re.MULTILINE)
        names = named[1].replace(" (send to storage)", "").split(", ") if named else []
        files = [folder.parents[1] / name for name in names]
        own = _text(files[0]) if files else ""
        spoke = any(line.startswith("✗ ") for line in own.splitlines())
        if spoke or why == "None":  # a step that ran here, and was heard
            continue
        name = rule
        if files and files[0].is_relative_to(folder):  # family/name, and the run of a sweep
            family, chapter, *point = files[0].relative_to(folder).with_suffix("").parts
            name = " ".join([f"{family}/{chapter}", *point])
        yield f"✗ {name} did not end by itself: {' '.join(why.split())}\n"
        yield from (f"    | {line}\n" for line in own.splitlines()[-LAST:])
        for file in files[1:]:  # among Snakemake's own words there, the cluster's
            found = re.findall(r"^(?:slurmstepd|srun|sbatch): .*", _text(file), re.MULTILINE)
            yield from (f"    | {line}\n" for line in found[-LAST:])
            yield f"  all that is known: {file}\n"


def _text(file: Path) -> str:
    return file.read_text("utf8", "replace") if file.exists() else ""
