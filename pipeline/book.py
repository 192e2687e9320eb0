"""Run the Snakefile and tell its progress in plain words: `python -m pipeline.book`.

Snakemake's own log goes to `_build/snakemake.log`. One run at a time; the lock dies with its
process, so that nothing needs unlocking after a crash.
"""

import argparse
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import yaml

from pipeline import ROOT
from pipeline.checks import times
from pipeline.execute import presets
from pipeline.execute import remote_logs as said
from pipeline.execute.parameters import BadParameter


def main() -> int:
    parser = argparse.ArgumentParser(description="Execute what has changed and build the site.")
    parser.add_argument("--preset", default="", help="a preset, such as gpu")
    parser.add_argument("--profile", default="", help="a folder of profiles: where to run")
    parser.add_argument("--cores", default="all")
    parser.add_argument("targets", nargs="*", help="rules or files of the Snakefile")
    args = parser.parse_args()
    begin = time.monotonic()
    try:
        options = where(args.profile)
        if args.preset:
            presets.load(args.preset, ROOT)
            options += ["--config", f"preset={args.preset}"] * (args.preset != presets.QUICK)
    except BadParameter as error:
        print(f"✗ {error}")
        return 1
    status, failed = run(args.targets or ["book"], options, cores=args.cores)
    work = presets.folder(args.preset, ROOT)
    print(f"\n{times.table(ROOT, work)}\n")
    page = work / "html" / "index.html"
    seconds = f"{time.monotonic() - begin:.1f} s"
    if status == 0:
        print(f"book: {page.relative_to(ROOT)}, {seconds}")
        return 0
    print(f"book not built, {seconds}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    if full := _full(ROOT):
        print(full)
    if page.exists():
        print(f"{page.relative_to(ROOT)} still shows the last good site")
    return status if 0 < status < 128 else 1


def where(profile: str, root: Path = ROOT) -> list[str]:
    """Return Snakemake's options for a profile, a folder of `profiles`; none is this machine.

    Raises:
        BadParameter: there is no such profile, or it cannot be used here.
    """
    if not profile:
        return []
    known = sorted(file.parent.name for file in (root / "profiles").glob("*/config.yaml"))
    if profile not in known:
        raise BadParameter(f"PROFILE={profile!r} is unknown; there is {', '.join(known)}")
    content = yaml.safe_load((root / "profiles" / profile / "config.yaml").read_text("utf8")) or {}
    executor = content.get("executor", "local")
    if executor not in ("local", "dryrun", "touch"):  # these are Snakemake's own
        plugin = f"snakemake-executor-plugin-{executor}"
        if importlib.util.find_spec(plugin.replace("-", "_")) is None:
            raise BadParameter(f"PROFILE={profile} needs {plugin}: `make cluster` installs it")
    if executor == "slurm" and not shutil.which("sbatch"):
        raise BadParameter(f"PROFILE={profile}: there is no sbatch here, so no Slurm to submit to")
    return ["--workflow-profile", str(root / "profiles" / profile)]


def run(
    targets: list[str], options: list[str] | None = None, *, cores: str = "all", root: Path = ROOT
) -> tuple[int, list[str]]:
    """Let Snakemake make the targets, telling progress; return its status and what failed."""
    with locked(root / "_build" / ".lock") as lock:
        return _snakemake(cores, targets, options or [], lock, root)


@contextmanager
def locked(file: Path) -> Iterator[TextIO]:
    file.parent.mkdir(exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another `make book` in this folder …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _snakemake(
    cores: str, targets: list[str], options: list[str], lock: TextIO, root: Path
) -> tuple[int, list[str]]:
    """Return Snakemake's status and the chapters that failed."""
    log = root / "_build" / "snakemake.log"
    command = [sys.executable, "-m", "snakemake", "--keep-going"]
    remote = "--workflow-profile" in options
    # A profile says itself how much may run at once.
    command += [] if remote else ["--cores", cores]
    # After every look at its jobs Snakemake plans another, a timespan later, besides those that are
    # planned: with its second, fifty looks a second after fifty chapters, a quarter of a core. At
    # the end it waits for the last one, so a small book keeps the second.
    span = 1 + len(list((root / "chapters").glob("*/*.ipynb"))) // 25
    command += [] if remote else ["--max-jobs-per-timespan", f"300/{span}s"]
    # Our lock stands in for Snakemake's, which outlives a killed process.
    command += ["--nolock", "--rerun-incomplete", "--nocolor", *options, "--", *targets]
    words = root / "_build" / "said"
    shutil.rmtree(words, ignore_errors=True)
    with log.open("w", encoding="utf8") as noise:
        process = subprocess.Popen(
            command,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
            encoding="utf8",
            errors="replace",
            # Buffered, a line and its end are one write, and lines of parallel steps never mix.
            env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
            | {"PYTHONUTF8": "1"},
            pass_fds=[lock.fileno()],
        )
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        failed, spoke, done = [], False, 0
        try:
            for line in said.lines(process, words, log) if remote else process.stdout:
                spoke = True
                mark, _, rest = line.rstrip("\n").partition(" ")
                chapter = re.match(r"[\w-]+/[\w-]+(?= |$)", rest)
                if mark in ("✓", "✗") and chapter:
                    done += 1
                    failed += [chapter[0]] if mark == "✗" else []
                    line = f"[{done}/{_planned(log)}] {'✗ ' if mark == '✗' else ''}{rest}\n"
                print(line, end="", flush=True)
        except KeyboardInterrupt:
            print("\nstopping …", flush=True)
        status = process.wait()
    if status and not spoke:
        print(_tail(log, root))
    return status, failed


def _full(root: Path, least: int = 10_000_000) -> str:
    """Return a sentence about a disk with no room left; what went wrong may not say so itself."""
    left = shutil.disk_usage(root).free
    if left >= least:
        return ""
    return f"the disk has {left / 1e6:.1f} MB left: make room, then `make book` again goes on"


def _planned(log: Path) -> str:
    """Return how many chapters Snakemake said it would run."""
    found = re.search(r"^(?:execute|point) +(\d+)", log.read_text("utf8", "replace"), re.MULTILINE)
    return found[1] if found else "?"


def _tail(log: Path, root: Path) -> str:
    """Return the last words of a Snakemake that stopped before any rule could speak."""
    lines = [line for line in log.read_text("utf8", "replace").splitlines() if line.strip()]
    return "\n".join([*lines[-15:], f"(all of it: {log.relative_to(root)})"])


if __name__ == "__main__":
    sys.exit(main())
