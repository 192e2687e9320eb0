#!/bin/sh
# Compile requirements.txt from the ranges of pyproject.toml. usage: lock.sh VENV/bin
set -eu
bin=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The newest torch whose CUDA build agrees with our triton; the last Jupyter Book of the 1.x line
# that everything else here was tested with.
printf 'torch==2.13.0\ntriton==3.7.1\njupyter-book==1.0.4.post1\n' >"$work/constraints.txt"
"$bin/pip-compile" --quiet --upgrade --extra book --extra test --allow-unsafe --strip-extras \
    --no-annotate --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
    --constraint "$work/constraints.txt" --output-file "$work/out.txt" pyproject.toml
{
    echo "# The exact, tested set: \`make lock\` compiles it from the ranges in pyproject.toml. Do not edit."
    # Without local versions such as +cpu, which only some machines' indexes have.
    sed -e '/^#/d' -e '/^--/d' -e '/^$/d' -e 's/+[A-Za-z0-9.]*$//' "$work/out.txt"
} >"$work/requirements.txt"
# What a cluster needs comes on top of these, so it must agree with them.
"$bin/pip-compile" --quiet --upgrade --extra cluster --allow-unsafe --strip-extras \
    --no-annotate --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
    --constraint "$work/requirements.txt" --output-file "$work/cluster.txt" pyproject.toml
{
    echo "# On top of requirements.txt, for PROFILE=slurm and kubernetes: \`make cluster\` installs it. Do not edit."
    sed -e '/^#/d' -e '/^--/d' -e '/^$/d' -e 's/+[A-Za-z0-9.]*$//' "$work/cluster.txt" |
        grep -vxF -f "$work/requirements.txt"
} >"$work/requirements-cluster.txt"
mv "$work/requirements-cluster.txt" requirements-cluster.txt
mv "$work/requirements.txt" requirements.txt
echo "requirements.txt: $(grep -c == requirements.txt) packages"
