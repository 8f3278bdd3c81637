#!/usr/bin/env bash
# Builds the Dockerfile as image $1 where there is neither a container engine nor a registry of images: buildah executes
# it on a base made of Debian's packages.  `run_image.sh` runs the result.  Prints its size.
#
#     bash scripts/build_image.sh gatekeeper:test
#
# The base is not the official python:3.11-slim, but laid out like it: python and pip under /usr/local.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/image_store.sh
source scripts/image_store.sh
tag=${1:?usage: build_image.sh TAG}
base=localhost/python:3.11-slim
work=$(mktemp -d "$IMAGES/work.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT

# One build at a time; children do not inherit the lock (9>&-), as some of them outlive the build.
exec 9>"$IMAGES/lock"
flock 9
buildah() { command buildah "${STORE[@]}" "$@" 2>>"$work/buildah.log" 9>&-; }

quietly() { # NAME COMMAND...: its output is shown only when it fails
    local log=$work/$1.log
    shift
    "$@" >"$log" 2>&1 9>&- || { tail -30 "$log" >&2; die "failed: $*"; }
}

install_tools() {
    local tools=(buildah podman crun conmon netavark mmdebstrap)
    if ! dpkg-query -W "${tools[@]}" >/dev/null 2>&1; then
        quietly update apt-get update
        DEBIAN_FRONTEND=noninteractive quietly install apt-get install -y --no-install-recommends "${tools[@]}"
    fi
}

make_base() {
    local container
    # /usr/local becomes a virtual environment of Debian's Python, which is 3.11 in bookworm.
    # shellcheck disable=SC2016 # $1 is mmdebstrap's: the folder of the new system
    quietly base mmdebstrap --mode=root --variant=minbase --include=ca-certificates,python3,python3-venv \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook='chroot "$1" python3 -m venv --system-site-packages /usr/local' \
        --customize-hook='rm -f "$1"/etc/resolv.conf "$1"/etc/hostname; : >"$1"/etc/pip.conf' \
        bookworm "$work/base.tar"
    container=$(buildah from scratch)
    quietly add command buildah "${STORE[@]}" add "$container" "$work/base.tar" /
    buildah config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
        --env LANG=C.UTF-8 --cmd python3 "$container"
    quietly commit command buildah "${STORE[@]}" commit --format docker --rm "$container" "$base"
}

# pip inside the build is set up as pip outside is: the same index, mirror or folder of wheels, mounted for the build
# only.  Prints the options that mount it.
pip_set_up() {
    local setting name value
    echo "[global]" >"$work/pip.conf"
    while IFS= read -r setting; do # global.index-url='https://…' or :env:.index-url='…'
        name=${setting%%=*} name=${name##*.}
        value=${setting#*=} value=${value#\'} value=${value%\'}
        grep -q "^$name = " "$work/pip.conf" || printf '%s = %s\n' "$name" "${value//\\n/$'\n    '}" >>"$work/pip.conf"
        case $value in /*) [ ! -e "$value" ] || echo "--volume=$value:$value:ro" ;; esac
    done < <(python3 -m pip config list | LC_ALL=C sort) # variables, as `:env:`, come first: they win
    echo "--volume=$work/pip.conf:/etc/pip.conf:ro"
}

megabytes_of() { buildah images --format '{{.Size}}' "$1" | tr -d ' B' | numfmt --from=si --to-unit=1000000; }

install_tools
buildah inspect --type image "$base" >/dev/null 2>&1 || make_base
mapfile -t mounts < <(pip_set_up)
# Docker's format keeps HEALTHCHECK and STOPSIGNAL; a chroot asks least of the machine.
quietly build command buildah "${STORE[@]}" bud --format docker --isolation chroot --network host --pull-never \
    "${mounts[@]}" -t "$tag" .
buildah rmi --prune >/dev/null 2>&1 || true
all=$(megabytes_of "$tag") below=$(megabytes_of "$base")
echo "built $tag: $((all - below)) MB on a base of $below MB"
