#!/bin/sh
# Copies each model of the image ($1) into the volume ($2) unless it is there, completely or not at all; then runs the
# command that follows, which gets whatever else is missing.
set -eu
source=$1
target=$2
shift 2
mkdir -p "$target"
for model in "$source"/*; do
    place="$target/${model##*/}"
    [ -e "$place" ] && continue
    rm -rf "$place.new"
    cp -r "$model" "$place.new"
    mv "$place.new" "$place"
done
exec "$@"
