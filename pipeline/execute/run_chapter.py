"""Execute one chapter with papermill: `python -m pipeline.execute.run_chapter foundations/mlp`.

At its defaults the result goes to `_build/executed` and becomes a page of the book; with a preset
it goes to `_build/presets/<preset>/executed`, with other parameters to `_build/custom`. A failed
notebook is kept in `_build/failed`.
"""

import argparse
import difflib
import hashlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import COLLECT, ROOT
from pipeline.execute import presets
from pipeline.execute.dependencies import Graph, digest
from pipeline.execute.parameters import BadParameter, cells_of, checked, split

RUNNER = "pipeline/execute/run_chapter.py"
SCALARS = "scalars.jsonl"  # what `nnlib.notebook.band` measured, a pair a line
FIGURES = "figures.jsonl"  # what `nnlib.plot.picture` says of each picture, one a line
CELL_SECONDS = 600  # of a cell at its defaults: a chapter that hangs must not hang the book


class ChapterError(RuntimeError):
    """A chapter that does not exist, or did not run to its end."""


def run(
    chapter: str,
    given: Mapping[str, Any] | None = None,
    *,
    root: Path = ROOT,
    into: Path | None = None,
    target: Path | None = None,
    failed: Path | None = None,
) -> dict[str, Any]:
    """Execute a chapter in a fresh kernel of this Python; return its record.

    Args:
        chapter: `family/name`.
        given: values for its parameters, as text or typed.
        root: the repository.
        into: folder of the result; chosen after `given` when None.
        target: the result's file, in the place of one in `into`.
        failed: where the notebook goes when a cell fails.

    Raises:
        ChapterError: no such chapter, or a cell failed.
        BadParameter: a parameter is unknown or of the wrong type.
    """
    source = find(chapter, root)
    parameters = checked(chapter, cells_of(source), given or {})
    into = into or root / "_build" / ("custom" if parameters else "executed")
    target = target or into / "chapters" / f"{chapter}.ipynb"
    failed = failed or root / "_build" / "failed" / "chapters" / f"{chapter}.ipynb"
    before_run = "" if parameters else state(chapter, root)
    with tempfile.TemporaryDirectory(prefix="nn-") as folder:
        partial = Path(folder) / "run.ipynb"
        begin, before = time.monotonic(), _children_seconds()
        try:
            _papermill(source, partial, parameters, root)
        except BaseException as error:
            if partial.exists():
                publish(partial.read_bytes(), failed)
            if isinstance(error, Exception):
                log = Path(folder) / "kernel.log"
                words = log.read_text("utf8", "replace") if log.exists() else ""
                raise ChapterError(_story(chapter, error, failed, root, words)) from error
            raise
        wall, cpu = time.monotonic() - begin, _children_seconds() - before
        bands, broken = promises(json.loads(partial.read_text("utf8")))
        measured, drawn = _lines(Path(folder) / SCALARS), _lines(Path(folder) / FIGURES)
        record = {
            "chapter": chapter,
            "cpu_seconds": round(cpu, 2),
            "wall_seconds": round(wall, 2),
            "parameters": parameters,
            "scalars": dict(measured),
            "figures": drawn,
            "bands": bands,
            "broken": broken,
        }
        if not parameters:
            record["state"] = before_run
        content = partial.read_bytes()
        record["sha256"] = hashlib.sha256(content).hexdigest()
        publish(content, target)
    publish((json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode(), _json(target))
    failed.unlink(missing_ok=True)
    return record


def find(chapter: str, root: Path = ROOT) -> Path:
    """Return the notebook of `family/name`.

    Raises:
        ChapterError: there is none; names near matches.
    """
    if not chapter:
        raise ChapterError("no chapter was named: CHAPTER=family/name")
    notebook = root / "chapters" / f"{chapter}.ipynb"
    if chapter.count("/") == 1 and notebook.exists():
        return notebook
    known = sorted(f"{f.parent.name}/{f.stem}" for f in (root / "chapters").glob("*/*.ipynb"))
    if notebook.with_suffix(".md").exists():
        told = f"chapters/{chapter}.md has no notebook beside it; `make sync` writes it"
        raise ChapterError(f"chapter {chapter!r} is not executable: {told}")
    near = difflib.get_close_matches(chapter, known, cutoff=0.4)
    near += [name for name in known if name.split("/")[1] == chapter and name not in near]
    told = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    raise ChapterError(f"there is no chapter {chapter!r} (family/name); {told}")


def state(chapter: str, root: Path = ROOT, graph: Graph | None = None) -> str:
    """Return a digest of all that a run at the defaults depends on; stored outputs are no part."""
    notebook = root / "chapters" / f"{chapter}.ipynb"
    cells = json.loads(notebook.read_text("utf8"))["cells"]
    kept = [(c["cell_type"], "".join(c["source"]), c.get("metadata", {})) for c in cells]
    files = [*(graph or Graph(root)).files(notebook), "requirements.txt", RUNNER]
    if chapter.startswith("kernels/"):
        results = (root / "benchmarks" / "results").glob("*.json")
        files += sorted(file.relative_to(root).as_posix() for file in results)
    return digest(root, files, [json.dumps(kept, sort_keys=True)])


def is_fresh(chapter: str, root: Path = ROOT, graph: Graph | None = None) -> bool:
    """Tell whether the book holds a run of the chapter as it now is; no file's time is asked."""
    executed = root / "_build" / "executed" / "chapters" / f"{chapter}.ipynb"
    if not intact(executed):
        return False
    record = json.loads(_json(executed).read_text("utf8"))
    return record.get("state") == state(chapter, root, graph)


def intact(notebook: Path) -> bool:
    """Tell whether an executed notebook is the one that its record was written with."""
    try:
        record = json.loads(_json(notebook).read_text("utf8"))
        return record["sha256"] == hashlib.sha256(notebook.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def promises(notebook: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the bands as printed, and every promise that did not hold, each once."""
    lines: list[str] = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stdout":
                lines += "".join(output["text"]).splitlines()
    bands = [f for f in lines if f[:2] in ("✓ ", "✗ ") and (" at least " in f or " at most " in f)]
    broken = [
        line[2:].removeprefix("did not hold: ")
        for line in lines
        if line.startswith("✗ ") and not line.endswith("did not")  # the verdict's tally
    ]
    return [b for b in bands if "did not hold: " not in b], list(dict.fromkeys(broken))


def _papermill(source: Path, target: Path, parameters: dict[str, Any], root: Path) -> None:
    import papermill  # here: the checks above must answer at once
    from jupyter_client import AsyncKernelManager
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.iorw import write_ipynb
    from traitlets import default

    folder = target.parent

    class SavingOnce(NBClientEngine):
        """Saves what ran when the run ends, however it ends.

        Papermill's own saves all outputs twice a cell, which took a third of a chapter's time.
        """

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, *args: Any, **options: Any) -> Any:
            try:
                return super().execute_managed_notebook(nb_man, *args, **options)
            except BaseException:
                write_ipynb(nb_man.nb, str(target))
                raise

    papermill_engines.register("saving once", SavingOnce)

    class Manager(AsyncKernelManager):
        """Sockets in our own folder: no ports to race for, and no network needed."""

        @default("transport")
        def _transport(self) -> str:
            fits = len(str(folder)) < 80  # the system's limit on a socket's path is about 100
            return "ipc" if sys.platform == "linux" and fits else "tcp"

        @default("connection_file")
        def _connection_file(self) -> str:
            return str(folder / "connection.json")

        async def start_kernel(self, **options: Any) -> None:
            # What the kernel says beside its cells is noise, until it dies (see _story).
            with (folder / "kernel.log").open("ab") as log:
                await super().start_kernel(**options, stdout=log, stderr=log)

    with _private_kernel(folder, root):
        papermill.execute_notebook(
            str(source),
            str(target),
            parameters=parameters,
            kernel_name="python3",
            cwd=str(source.parent),
            engine_name="saving once",
            request_save_on_cell_execute=False,
            progress_bar=False,
            execution_timeout=None if parameters else CELL_SECONDS,
            kernel_manager_class=Manager,
        )


@contextmanager
def _private_kernel(folder: Path, root: Path) -> Iterator[None]:
    """Make `python3` mean this interpreter, whatever kernels and profiles the user has.

    Afterwards the environment is what it was: figures of this process have nobody to tell.
    """
    kernel = folder / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    kernel.write_text(json.dumps(spec), "utf8")
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    before = dict(os.environ)
    os.environ |= {
        "JUPYTER_PATH": str(folder),
        "JUPYTER_RUNTIME_DIR": str(folder),
        "IPYTHONDIR": ipython(folder),
        "NNLIB_SCALARS": str(folder / SCALARS),
        "NNLIB_FIGURES": str(folder / FIGURES),
        "NNLIB_LIVE": "page",
        "PYTHONPATH": path,  # nnlib of this tree, not of another that may be installed
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def ipython(folder: Path) -> str:
    """Make IPython's folder, with nothing of the user's in it; return it."""
    config = folder / "ipython" / "profile_default" / "ipython_kernel_config.py"
    config.parent.mkdir(parents=True)
    line = f"__import__('gc').set_threshold{COLLECT}"
    config.write_text(f"get_config().IPKernelApp.exec_lines = [{line!r}]\n", "utf8")
    return str(config.parents[1])


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def publish(content: bytes, target: Path) -> None:
    """Write in one step: a reader sees the old file or the new one, never half of one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _lines(file: Path) -> list[Any]:
    lines = file.read_text("utf8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def _json(notebook: Path) -> Path:
    return notebook.with_suffix(".json")


def _story(chapter: str, error: Exception, failed: Path, root: Path, words: str) -> str:
    """Tell where the chapter stopped: cell, line of the text, error, source."""
    kept = failed.relative_to(root) if failed.exists() else None
    where, source = "before its first cell", ""
    what = f"{type(error).__name__}: {error}".strip()
    if kept:
        cells = json.loads(failed.read_text("utf8"))["cells"]
        # papermill puts its own notice at the top, and an injected cell after the parameters
        own = {"papermill-error-cell-tag", "injected-parameters"}
        cells = [c for c in cells if not own & set(c["metadata"].get("tags", []))]
        states = [c["metadata"].get("papermill", {}) for c in cells]
        at = next((i for i, s in enumerate(states) if s.get("exception")), None)
        if at is None:  # the kernel died or hung: in the last cell that began
            at = max((i for i, s in enumerate(states) if s.get("start_time")), default=None)
        if at is not None:
            source = "".join(cells[at]["source"])
            count = cells[at].get("execution_count")
            where = f"in cell {at + 1}" + (f" (In [{count}])" if count else "")
            where += _line_of_text(root / "chapters" / f"{chapter}.md", source, root)
    if hasattr(error, "ename"):
        what = f"{error.ename}: {error.evalue}"
    else:  # the kernel itself failed, and its own words may say why
        what = "\n  ".join([what, *words.splitlines()[-10:]])
    told = [f"{chapter} failed {where}", f"  {what}"]
    told += [f"    | {line}" for line in source.splitlines()]
    told += [f"  the notebook, as far as it ran: {kept}"] if kept else []
    return "\n".join(told)


def _line_of_text(page: Path, source: str, root: Path) -> str:
    text = page.read_text("utf8") if page.exists() else ""
    at = text.find(source) if source else -1
    return f", {page.relative_to(root)}:{text.count(chr(10), 0, at) + 1}" if at >= 0 else ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Execute one chapter.")
    parser.add_argument("chapter", help="family/name")
    parser.add_argument("-p", nargs=2, action="append", metavar=("NAME", "VALUE"), default=[])
    parser.add_argument("--set", default="", help="the same as one text: 'steps=5 device=cuda'")
    parser.add_argument("--preset", default="", help="a preset, such as gpu")
    parser.add_argument("--into", type=Path, help="folder of the result")
    parser.add_argument("--to", type=Path, help="file of the result, in the place of one in --into")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    args = parser.parse_args()
    # An orderly end, which removes what is temporary and stops the kernel.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        find(args.chapter, args.root)
        given = split(args.set) | dict(args.p)
        into, to = args.into and args.into.resolve(), args.to and args.to.resolve()
        blocks = presets.load(args.preset, args.root) if args.preset else {}
        if args.preset not in ("", presets.QUICK):
            # A larger run may miss a band that holds for the defaults; it is told, not raised.
            given = {"strict": False} | presets.values(blocks, args.chapter) | given
            into = into or presets.folder(args.preset, args.root.resolve()) / "executed"
        print(f"… {args.chapter}", flush=True)
        record = run(args.chapter, given, root=args.root.resolve(), into=into, target=to)
    except (ChapterError, BadParameter) as error:
        print(f"✗ {error}", flush=True)
        return 1
    for claim in record["broken"]:
        print(f"  did not hold: {claim}")
    seconds = f"{record['wall_seconds']:.1f} s ({record['cpu_seconds']:.1f} s of CPU)"
    print(f"✓ {args.chapter}  {seconds}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
