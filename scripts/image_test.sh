#!/usr/bin/env bash
# Builds the container image and tries it: what is in it, what it answers, how it ends.  Exit status 0 when all is well.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/build_image.sh gatekeeper:test
exec python3 -m scripts.image_test gatekeeper:test
