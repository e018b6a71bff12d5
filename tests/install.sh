#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Installs the Debian packages named that are not there yet: tests/install.sh PACKAGE ...
# Services that come with a package are neither started now nor at the next boot; nothing here needs them.
set -eu

missing=
for package in "$@"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "missing:$missing; install them as root, or install sudo" >&2; exit 1; }
    as_root=sudo
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi

install() {
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

echo "installing:$missing"
install 2>/dev/null || { $as_root apt-get update -qq && install; }

for service in redis-server redis-sentinel; do
    case " $missing " in
    *" $service "*) command -v systemctl >/dev/null && $as_root systemctl disable -q "$service" 2>/dev/null || true ;;
    esac
done
