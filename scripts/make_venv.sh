#!/usr/bin/env bash
# Makes the virtual environment $2 with the interpreter $1, which must be Python 3.11 or later.
set -euo pipefail
python=$1 venv=$2
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "gatekeeper needs Python 3.11 or later, and '$python' is none: try make PYTHON=/path/to/python3.12" >&2
    exit 1
fi
if ! "$python" -m venv "$venv"; then
    echo "'$python -m venv' failed: on Debian, install the package python3-venv" >&2
    exit 1
fi
