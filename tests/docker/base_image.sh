#!/usr/bin/env bash
# base_image.sh [TAG]: a stand-in for python:3.13-slim, made on the spot where no image registry can be reached.
#
# Debian trixie by debootstrap with its own python3 and venv, imported as TAG (twinlog-base:local). Needs root, a
# running Docker engine and debootstrap. The tree is kept in ${XDG_CACHE_HOME:-~/.cache}/twinlog-ci, outside the
# checkout, so that a second run takes seconds. The package mirror is the one this machine's apt uses, and the
# machine's certificate bundle goes along, because pip inside the image meets the same network. Never push it.
set -euo pipefail

tag=${1:-twinlog-base:local}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/twinlog-ci
tree=$cache/trixie

[ "$(id -u)" = 0 ] || { echo "base_image.sh: debootstrap needs root; run as root or pass an image by BASE_IMAGE" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "base_image.sh: no debootstrap; apt-get install debootstrap" >&2; exit 1; }

# The first Debian mirror apt knows, from either form of its source lists.
apt_mirror() {
    local files=() file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ -f "$file" ] && files+=("$file")
    done
    awk '$1 == "URIs:" { print $2; exit }
         $1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }' "${files[@]}"
}

if docker image inspect "$tag" >/dev/null 2>&1; then
    echo "base_image.sh: $tag is there already (docker image rm $tag to make it anew)"
    exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9 # two builds at once would fill one tree together

if [ ! -e "$tree/.complete" ]; then
    mirror=$(apt_mirror)
    [ -n "$mirror" ] || { echo "base_image.sh: apt has no source to take a mirror from" >&2; exit 1; }
    rm -rf "$tree"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates trixie "$tree" "$mirror"
    rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/*
    touch "$tree/.complete"
fi

if [ -r /etc/ssl/certs/ca-certificates.crt ]; then
    cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/ca-certificates.crt"
fi
tar -C "$tree" --exclude=./.complete -c . | docker import \
    -c 'ENV LANG=C.UTF-8' -c 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' -c 'CMD ["python3"]' - "$tag" >/dev/null
echo "base_image.sh: $tag is ready"
