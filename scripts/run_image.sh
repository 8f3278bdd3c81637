#!/usr/bin/env bash
# Runs an image that build_image.sh made, as `podman run` does: options, image, arguments.  This process becomes the run:
# signals sent to it reach process 1 of the container, and its exit status is that process's.
#
#     bash scripts/run_image.sh --read-only -v "$PWD/config.yaml:/etc/gatekeeper/config.yaml:ro" gatekeeper:test
#
# The container shares this machine's network, so whatever listens in it needs a free port.  It has no limits of memory
# or processor time, and nobody runs its HEALTHCHECK.
set -euo pipefail
# shellcheck source=scripts/image_store.sh
source "$(dirname "$0")/image_store.sh"

# podman would raise these limits to its own defaults, which takes more rights than every root has.
files=$(ulimit -Hn) processes=$(ulimit -Hu) most_processes=$(cat /proc/sys/kernel/pid_max)
[ "$files" != unlimited ] || files=1048576
if [ "$processes" = unlimited ] || [ "$processes" -gt "$most_processes" ]; then processes=$most_processes; fi
exec podman "${STORE[@]}" --runtime crun --cgroup-manager cgroupfs --events-backend none run \
    --rm --pull never --network host --cgroups disabled --no-healthcheck \
    --ulimit "nofile=$files:$files" --ulimit "nproc=$processes:$processes" "$@"
