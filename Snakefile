# The book as a graph of files. `make book` runs it through pipeline/book.py, which shows progress;
# `snakemake -n` tells what would run, and `snakemake --executor slurm …` runs it on a cluster.
# A new chapter needs no line here: chapters are found, and so are the files they import.
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
from pipeline import dependencies
from pipeline import preset as presets

shell.prefix("exec 2>&1; ")  # what a step says is shown; Snakemake's own words go to the log

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
for product, stamp in {f"{WORK}/html/index.html": SITE, "_extra/vendor": VENDOR}.items():
    if not Path(product).exists():
        Path(stamp).unlink(missing_ok=True)


def what_a_chapter_reads(wildcards):
    chapter = f"chapters/{wildcards.family}/{wildcards.name}.ipynb"
    results = RESULTS if wildcards.family == "kernels" else []
    return [chapter, *GRAPH.files(ROOT / chapter), *results, "pipeline/run_chapter.py", "requirements.txt"]


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
    threads: 1
    resources: mem_mb=4000
    shell: "{PYTHON:q} -m pipeline.run_chapter {wildcards.family}/{wildcards.name} {params.preset:q}"


# One run of a sweep (pipeline/sweep.py writes what it runs with, and gathers the records).
rule point:
    input:
        "_build/sweeps/{family}/{name}/{grid}/points/{point}.json",
        what_a_chapter_reads,
    output: "_build/sweeps/{family}/{name}/{grid}/runs/{point}.json"
    threads: 1
    resources: mem_mb=4000
    shell: "{PYTHON:q} -m pipeline.sweep --point {input[0]:q}"


# The two files of every chapter agree.
rule pairs:
    input: TEXTS, [f"chapters/{c}.ipynb" for c in CHAPTERS], "pipeline/pairs.py"
    output: touch("_build/stamps/pairs")
    shell: "{PYTHON:q} -m pipeline.pairs check"


# Browser files of other projects, from npm once and from .cache afterwards.
rule vendor:
    input: "pipeline/vendor.py", "pipeline/vendor.json"
    output: touch(VENDOR)
    shell: "{PYTHON:q} -m pipeline.vendor"


# Which equation is verified by which test. A red test does not stop the book: the table shows it.
rule truth:
    input: TEXTS, LIBRARY, TESTS, "pipeline/truth.py"
    output: "_build/truth.json"
    log: "_build/truth.log"
    shell: "echo '… tests of the equations'; {PYTHON:q} -m pipeline.truth --report {output} > {log} 2>&1 || {{ cat {log}; false; }}"


# Pages made from the catalogue, the library and the tests.
rule pages:
    input: "_build/truth.json", TEXTS, LIBRARY, found("pipeline/pages.py", "pipeline/tree.py", "pipeline/truth.py"), "_toc.yml"
    output: touch("_build/stamps/pages")
    shell: "{PYTHON:q} -m pipeline.pages"


# Built aside; _build/html is swapped in the last step, so it is no output that may be deleted.
rule site:
    input:
        [f"{WORK}/executed/chapters/{c}.ipynb" for c in CHAPTERS],
        [f"_build/stamps/{step}" for step in ("pairs", "vendor", "pages")],
        found("_static/**/*", "pipeline/site.py", "pipeline/sphinx_*.py"),
        TEXTS, LIBRARY, "_config.yml", "_toc.yml", "references.bib", "requirements.txt",
    output: touch(SITE)
    params: preset=f"--preset={PRESET}"
    shell: "echo '… site'; {PYTHON:q} -m pipeline.site {params.preset:q}"
