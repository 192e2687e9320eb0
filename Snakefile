# The book as a graph of files. `make book` runs it through pipeline/book.py, which shows progress;
# `snakemake -n` tells what would run, and `snakemake --executor slurm …` runs it on a cluster.
# A new chapter needs no line here: chapters are found, and so are the files they import.
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
from pipeline import dependencies

shell.prefix("exec 2>&1; ")  # what a step says is shown; Snakemake's own words go to the log

PYTHON = sys.executable
ROOT = Path(workflow.basedir)
CHAPTERS = dependencies.chapters(ROOT)
GRAPH = dependencies.Graph(ROOT)


def found(*patterns):
    return sorted(str(f.relative_to(ROOT)) for p in patterns for f in ROOT.glob(p) if f.is_file())


TEXTS = found("chapters/**/*.md")
LIBRARY = found("nnlib/**/*.py")
RESULTS = found("benchmarks/results/*.json")
TESTS = [f for f in found("tests/**/*.py") if not f.startswith("tests/book/")]

# A stamp says that a step is done; without the step's product it lies.
for product, stamp in {"_build/html/index.html": "site", "_extra/vendor": "vendor"}.items():
    if not Path(product).exists():
        Path(f"_build/stamps/{stamp}").unlink(missing_ok=True)


localrules: book, pairs, vendor, pages, site


rule book:
    input: "_build/stamps/site"


# One chapter, again only when it or a file that it imports in the end has changed.
rule execute:
    input:
        "chapters/{family}/{name}.ipynb",
        lambda wildcards: GRAPH.files(ROOT / "chapters" / wildcards.family / f"{wildcards.name}.ipynb"),
        lambda wildcards: RESULTS if wildcards.family == "kernels" else [],
        "pipeline/run_chapter.py",
        "requirements.txt",
    output:
        "_build/executed/chapters/{family}/{name}.ipynb",
        "_build/executed/chapters/{family}/{name}.json",
    threads: 1
    resources: mem_mb=4000
    shell: "{PYTHON:q} -m pipeline.run_chapter {wildcards.family}/{wildcards.name}"


# The two files of every chapter agree.
rule pairs:
    input: TEXTS, [f"chapters/{c}.ipynb" for c in CHAPTERS], "pipeline/pairs.py"
    output: touch("_build/stamps/pairs")
    shell: "{PYTHON:q} -m pipeline.pairs check"


# Browser files of other projects, from npm once and from .cache afterwards.
rule vendor:
    input: "pipeline/vendor.py", "pipeline/vendor.json"
    output: touch("_build/stamps/vendor")
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
        [f"_build/executed/chapters/{c}.ipynb" for c in CHAPTERS],
        [f"_build/stamps/{step}" for step in ("pairs", "vendor", "pages")],
        found("_static/**/*", "pipeline/site.py", "pipeline/sphinx_*.py"),
        TEXTS, LIBRARY, "_config.yml", "_toc.yml", "references.bib", "requirements.txt",
    output: touch("_build/stamps/site")
    shell: "echo '… site'; {PYTHON:q} -m pipeline.site"
