# Sourced by build_image.sh and run_image.sh: a place for images, and what a machine without container engine needs.
#
# Needs root on Debian.  Both scripts call this first; it starts them again inside a mount namespace of their own, so
# that every mount they make ends with them.
# shellcheck shell=bash

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || die "needs root, for mounts and namespaces; with a container engine, use docker build . instead"
[ -n "$(command -v apt-get)" ] || die "needs Debian; with a container engine, use docker build . instead"
if [ -z "${IMAGE_NAMESPACE:-}" ]; then
    IMAGE_NAMESPACE=1 exec unshare --mount bash "$0" "$@"
fi
# crun refuses a machine that has both versions of cgroups; in here, the second is not seen.
umount /sys/fs/cgroup/unified 2>/dev/null || true

IMAGES=${XDG_CACHE_HOME:-$HOME/.cache}/gatekeeper-images
mkdir -p "$IMAGES/store" "$IMAGES/run"

# overlay shares layers between images, but not every kernel lets it: then each layer is a copy.
has_overlay() {
    local probe
    probe=$(mktemp -d "$IMAGES/probe.XXXXXX")
    mkdir "$probe/lower" "$probe/upper" "$probe/work" "$probe/merged"
    mount -t overlay overlay -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" "$probe/merged" 2>/dev/null
    local status=$?
    [ "$status" != 0 ] || umount "$probe/merged"
    rm -rf --one-file-system "$probe"
    return "$status"
}
DRIVER=vfs
if has_overlay; then DRIVER=overlay; fi
# shellcheck disable=SC2034 # for those who source this
STORE=(--root "$IMAGES/store" --runroot "$IMAGES/run" --storage-driver "$DRIVER")
