#!/usr/bin/env bash
# Resolves pyproject.toml and the *.in files to locks with hashes, for every platform and Python 3.11 and later.
set -euo pipefail
python=$1
"$python" -m pip install -q uv
compile() {
    "$python" -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --no-annotate --no-strip-extras "$@"
}
compile locks/build.in -o locks/build.txt
compile pyproject.toml --extra postgres --extra mysql --extra redis -o locks/runtime.txt
compile locks/dev.in -c locks/runtime.txt -o locks/dev.txt
