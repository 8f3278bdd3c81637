#!/usr/bin/env bash
# Installs the servers and the browser that tests need from Debian's packages, as root.  Elsewhere it says what is
# missing, and the tests that need it skip.
set -euo pipefail
declare -A package=([redis-server]=redis-server [postgres]=postgresql [mariadbd]=mariadb-server [chromium]=chromium)
missing=()
for program in "${!package[@]}"; do
    compgen -G "/usr/lib/postgresql/*/bin/$program" >/dev/null || PATH=$PATH:/usr/sbin command -v "$program" >/dev/null ||
        missing+=("${package[$program]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed: ${missing[*]}; the tests that need them are skipped" >&2
    exit 0
fi
echo "Installing ${missing[*]} …"
# In runlevel 1 a package's service is not started, and PostgreSQL's makes no cluster of its own.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    apt-get install -y -q --no-install-recommends -o Dpkg::Options::=--force-confold "$@" >>"$log" 2>&1
}
for _ in 1 2; do
    if install "${missing[@]}"; then exit 0; fi
    apt-get update -q >>"$log" 2>&1 || true # perhaps the lists were old
done
tail -20 "$log" >&2
# One package that cannot be had keeps no other away.
failed=()
for one in "${missing[@]}"; do
    install "$one" || failed+=("$one")
done
[ ${#failed[@]} -eq 0 ] || echo "could not install ${failed[*]}; the tests that need them are skipped" >&2
