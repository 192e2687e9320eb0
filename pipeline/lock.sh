#!/bin/sh
# Compile the exact sets of packages from the ranges of pyproject.toml, each in step with the ones
# before it. usage: [KEEP=1] lock.sh VENV/bin
set -eu
bin=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The newest torch whose CUDA build agrees with our triton; the last Jupyter Book of the 1.x line
# that everything else here was tested with.
printf 'torch==2.13.0\ntriton==3.7.1\njupyter-book==1.0.4.post1\n' >"$work/known"
# With KEEP, today's versions stay; only what stands in which set may change.
[ -z "${KEEP:-}" ] || cat requirements*.txt | grep == >>"$work/known"
touch "$work/requirements.txt"

# compile FILE WHAT EXTRA…: what the extras need and requirements.txt does not have.
compile() {
    file=$1 what=$2
    shift 2
    # shellcheck disable=SC2046 # one word for each extra
    "$bin/pip-compile" --quiet --upgrade $(printf -- ' --extra %s' "$@") --allow-unsafe \
        --strip-extras --no-annotate --no-header --no-emit-index-url --no-emit-trusted-host \
        --no-emit-find-links --constraint "$work/known" --output-file "$work/out" pyproject.toml
    # Without ourselves, and without local versions such as +cpu, which only some indexes have.
    sed -e '/^#/d' -e '/^--/d' -e '/^$/d' -e '/ @ /d' -e 's/+[A-Za-z0-9.]*$//' "$work/out" |
        grep -vxF -f "$work/requirements.txt" >"$work/lines"
    { echo "# $what: \`make lock\` compiles it from pyproject.toml. Do not edit." && cat "$work/lines"; } \
        >"$work/$file"
    cat "$work/lines" >>"$work/known"
}

compile requirements.txt "The exact, tested set that the book needs" all book
compile requirements-test.txt "On top of requirements.txt, for \`make test\`" all book test
compile requirements-cluster.txt "On top of requirements.txt, for \`make cluster\`" all book cluster
for file in requirements.txt requirements-test.txt requirements-cluster.txt; do
    mv "$work/$file" "$file"
    echo "$file: $(grep -c == "$file") packages"
done
