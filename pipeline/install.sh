#!/bin/sh
# Make the virtual environment, when it is missing, unfinished or older than its pins.
# usage: install.sh PYTHON VENV
set -eu
python=$1 venv=$2
stamp=$venv/.installed
sum=$(cat requirements.txt pyproject.toml | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ] && [ -x "$venv/bin/python" ]; then
    told=$("$venv/bin/python" -m pipeline.checks.environment) && exit 0
    echo "$venv is not what requirements.txt says; mending it:"
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
rm -f "$stamp"
echo "installing requirements.txt into $venv (some minutes the first time) …"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
# The build of our own package has nothing to say, unless it fails.
told=$("$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --no-deps --no-build-isolation -e . 2>&1) || {
    echo "$told"
    exit 1
}
echo "$sum" >"$stamp"
