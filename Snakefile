# The book as a graph of files. `make book` runs it through pipeline/book.py, which shows progress;
# `snakemake -n` tells what would run; a folder of `profiles` takes it to a cluster.
# A new chapter needs no line here: chapters are found, and so are the files they import.
import json
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
from pipeline.execute import dependencies
from pipeline.execute import run_chapter
from pipeline.execute import presets
from pipeline.site import vendor as browser_files

shell.prefix("exec 2>&1; ")  # what a step says is shown; Snakemake's own words go to the log
# On another machine it speaks into its log, and pipeline/book.py listens there.
SAY = "exec &>" if workflow.remote_exec else ":"

PYTHON = sys.executable
ROOT = Path(workflow.basedir)
CHAPTERS = dependencies.chapters(ROOT)
GRAPH = dependencies.Graph(ROOT)

# `make book PRESET=gpu` makes another book beside the first, in a folder of its own.
PRESET = config.get("preset", "")
WORK = presets.folder(PRESET, ROOT).relative_to(ROOT).as_posix()
BLOCKS = presets.load(PRESET, ROOT) if PRESET else {}


def found(*patterns):
    return sorted(str(f.relative_to(ROOT)) for p in patterns for f in ROOT.glob(p) if f.is_file())


TEXTS = found("chapters/**/*.md")
LIBRARY = found("nnlib/**/*.py")
RESULTS = found("benchmarks/results/*.json")
TESTS = [f for f in found("tests/**/*.py") if not f.startswith(("tests/book/", "tests/slow/"))]

# A stamp says that a step is done; without the step's product it lies.
SITE, VENDOR = f"{WORK}/stamps/site", "_build/stamps/vendor"
# So does a result that somebody, or a failing disk, has changed. A job elsewhere must not look: it
# would find what others are just writing.
if not workflow.remote_exec:
    lost = [] if Path(f"{WORK}/html/index.html").exists() else [SITE]
    if not browser_files.complete(Path("_extra/vendor"), browser_files.recipe()):
        lost += [VENDOR]
    for notebook in map(Path, (f"{WORK}/executed/chapters/{c}.ipynb" for c in CHAPTERS)):
        if not run_chapter.intact(notebook):
            if notebook.exists():
                print(f"{notebook} is damaged: its chapter runs again", flush=True)
            lost += [notebook]
    # Snakemake leaves alone what is missing between a source and an end that is there.
    for file in [*lost, SITE] if lost else []:
        Path(file).unlink(missing_ok=True)


def what_a_chapter_reads(wildcards):
    chapter = f"chapters/{wildcards.family}/{wildcards.name}.ipynb"
    results = RESULTS if wildcards.family == "kernels" else []
    return [chapter, *GRAPH.files(ROOT / chapter), *results, "pipeline/execute/run_chapter.py", "requirements.txt"]


# What a cluster is asked for; a machine of one's own takes no notice. A larger run is for a GPU,
# and for a night. A profile may ask otherwise, with set-resources.
def gpus(values):
    return int(values.get("device", "cpu") != "cpu")


MEMORY, MINUTES = (16000, 720) if BLOCKS else (4000, 30)


localrules: book, pairs, vendor, pages, site


rule book:
    input: SITE


# One chapter, again only when it or a file that it imports in the end has changed.
rule execute:
    input: what_a_chapter_reads
    output:
        f"{WORK}/executed/chapters/{{family}}/{{name}}.ipynb",
        f"{WORK}/executed/chapters/{{family}}/{{name}}.json",
    params:
        preset=f"--preset={PRESET}",
        values=lambda wildcards: presets.values(BLOCKS, f"{wildcards.family}/{wildcards.name}"),
    log: "_build/said/{family}/{name}.log"
    threads: 1
    resources:
        mem_mb=MEMORY,
        runtime=MINUTES,
        gpu=lambda wildcards: gpus(presets.values(BLOCKS, f"{wildcards.family}/{wildcards.name}")),
    shell: "{SAY} {log:q}; {PYTHON:q} -m pipeline.execute.run_chapter {wildcards.family}/{wildcards.name} {params.preset:q} --to {output[0]:q}"


# One run of a sweep (pipeline/execute/sweep.py writes what it runs with, and gathers the records).
rule point:
    input:
        "_build/sweeps/{family}/{name}/{grid}/points/{point}.json",
        what_a_chapter_reads,
    output: "_build/sweeps/{family}/{name}/{grid}/runs/{point}.json"
    log: "_build/said/{family}/{name}/{grid}/{point}.log"
    threads: 1
    resources:
        mem_mb=16000,
        runtime=720,
        gpu=lambda wildcards, input: gpus(json.loads(Path(input[0]).read_text("utf8"))["parameters"]),
    shell: "{SAY} {log:q}; {PYTHON:q} -m pipeline.execute.sweep --point {input[0]:q}"


# The two files of every chapter agree.
rule pairs:
    input: TEXTS, [f"chapters/{c}.ipynb" for c in CHAPTERS], "pipeline/checks/pairing.py"
    output: touch("_build/stamps/pairs")
    shell: "{PYTHON:q} -m pipeline.checks.pairing check"


# Browser files of other projects, from npm once and from .cache afterwards.
rule vendor:
    input: "pipeline/site/vendor.py", "pipeline/site/vendor.json", "pipeline/site/maths_font.py", "pipeline/site/live_engine.py"
    output: touch(VENDOR)
    shell: "{PYTHON:q} -m pipeline.site.vendor"


# Which equation is verified by which test. A red test does not stop the book: the table shows it.
rule truth:
    input: TEXTS, LIBRARY, TESTS, found("pipeline/checks/equations.py", "pipeline/checks/outcomes.py")
    output: "_build/truth.json"
    log: "_build/truth.log"
    resources: mem_mb=8000, runtime=60
    shell: "echo '… tests of the equations'; {PYTHON:q} -m pipeline.checks.equations --report {output} > {log} 2>&1 || {{ cat {log}; false; }}"


# Pages made from the catalogue, the library and the tests.
rule pages:
    input: "_build/truth.json", TEXTS, LIBRARY, found("pipeline/site/*_pages.py", "pipeline/site/changes.py", "pipeline/site/family_tree.py", "pipeline/checks/equations.py", "CHANGELOG.md"), "_toc.yml"
    output: touch("_build/stamps/pages")
    shell: "{PYTHON:q} -m pipeline.site.generated_pages"


# Built aside; _build/html is swapped in the last step, so it is no output that may be deleted.
rule site:
    input:
        [f"{WORK}/executed/chapters/{c}.ipynb" for c in CHAPTERS],
        [f"_build/stamps/{step}" for step in ("pairs", "vendor", "pages")],
        found("_static/**/*", "LICENSE*", "pipeline/site/*.py", "pipeline/site/*.js", "pipeline/forms/*.py", "benchmarks/families/*"),
        TEXTS, LIBRARY, found("references.bib", "chapters/*/references.bib", "chapters/search.yaml"), "_config.yml", "_toc.yml", "requirements.txt", "pyproject.toml",
    output: touch(SITE)
    params: preset=f"--preset={PRESET}"
    shell: "echo '… site'; {PYTHON:q} -m pipeline.site.build {params.preset:q}"
