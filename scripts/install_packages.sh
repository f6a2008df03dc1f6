#!/bin/sh
# Installs the Debian packages that are missing: those that Limn is built and tested with, with `pictures` also those that the
# quickstart's pictures are made from, and with `fuzz` the clang that fuzzing needs. Asks for no input; says what to do when it may
# not install. Those that Limn
# is only faster with, and MPI for many machines (`optional`), are no reason to stop.
set -eu

packages="build-essential cmake pkg-config libopenblas-pthread-dev libhdf5-dev libjansson-dev libyaml-dev
libcurl4-openssl-dev libc-ares-dev libarchive-dev libjpeg62-turbo-dev libpng-dev libwebp-dev liblcms2-dev zlib1g-dev
libzstd-dev libssl-dev libpcre2-dev libcmocka-dev libutf8proc-dev unicode-data libtext-unidecode-perl
libpango1.0-dev fonts-dejavu-core libexttextcat-dev libexttextcat-data"
optional="libdnnl-dev libopenmpi-dev openmpi-bin"
if [ "${1:-}" = pictures ]; then
    packages="$packages python3-pil fonts-noto-color-emoji unicode-cldr-core tuxpaint-stamps-default"
fi
if [ "${1:-}" = fuzz ]; then
    packages="$packages clang libclang-rt-dev libomp-dev"
fi

absent() {
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || printf ' %s' "$package"
    done
}
# Word splitting is meant, here and below.
# shellcheck disable=SC2086
missing=$(absent $packages) extra=$(absent $optional)
[ -n "$missing$extra" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    if sudo -n true 2>/dev/null; then
        as_root=sudo
    elif [ -z "$missing" ]; then
        echo "not installed, optional:$extra" >&2
        exit 0
    else
        echo "Limn needs packages that only root can install. Run this, then start again:" >&2
        echo "  sudo apt-get install$missing$extra" >&2
        exit 1
    fi
fi
echo "installing:$missing$extra" >&2
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -q >/dev/null
install() {
    $as_root apt-get install -q -y --no-install-recommends "$@" >/dev/null
}
# shellcheck disable=SC2086
[ -z "$missing" ] || install $missing
# shellcheck disable=SC2086
[ -z "$extra" ] || install $extra || echo "could not be installed, optional:$extra" >&2
