#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Installs what is missing: install-tools.sh PROGRAM:PACKAGE ... (Debian's own packages, through apt-get).
set -eu

PATH="$PATH:/usr/sbin:/sbin"
missing=
for need in "$@"; do
    command -v "${need%%:*}" >/dev/null || missing="$missing ${need#*:}"
done
[ -n "$missing" ] || exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
echo "installing:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing
