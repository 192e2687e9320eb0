#!/bin/sh
# Make the virtual environment, when it is missing, unfinished or older than its pins.
# usage: install.sh PYTHON VENV [test]
set -eu
python=$1 venv=$2 files=requirements.txt
[ "${3:-}" != test ] || files="$files requirements-test.txt"

# One stamp for each set of files: what they and pyproject.toml said when all of it was installed.
stamp() { echo "$venv/.installed${1:+-$1}"; }
# shellcheck disable=SC2086 # the names of the files are words of their own
sum=$(cat $files pyproject.toml | cksum)
if [ "$(cat "$(stamp "${3:-}")" 2>/dev/null)" = "$sum" ] && [ -x "$venv/bin/python" ]; then
    told=$("$venv/bin/python" -m pipeline.checks.environment $files) && exit 0
    echo "$venv is not what $files says; mending it:"
    echo "$told" | head -n 5
fi

command -v "$python" >/dev/null || {
    echo "there is no $python; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python"
    exit 1
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "$python is $("$python" -V); Python 3.11 or newer is needed: make PYTHON=python3.12"
    exit 1
}
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || {
    echo "making $venv with $("$python" -V) …"
    "$python" -m venv --clear "$venv" || {
        echo "$python cannot make virtual environments; on Debian: apt-get install python3-venv"
        exit 1
    }
}
rm -f "$(stamp)" "$(stamp test)"
echo "installing $files into $venv (some minutes the first time) …"
# shellcheck disable=SC2046
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check $(printf -- ' -r %s' $files)
# The build of our own package has nothing to say, unless it fails.
told=$("$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --no-deps --no-build-isolation -e . 2>&1) || {
    echo "$told"
    exit 1
}
cat requirements.txt pyproject.toml | cksum >"$(stamp)"
[ "${3:-}" != test ] || echo "$sum" >"$(stamp test)"
