#!/bin/sh
# Amlogic's boot ROM takes U-Boot only packed with code of Amlogic's, which Buildroot fetches (amlogic-boot-fip). This packs
# it: u-boot.fip.bin is what stands at sector 1 of a card. Other builders have no BINARIES_DIR, and nothing to pack.
set -eu
[ -n "${BINARIES_DIR:-}" ] || exit 0
tools=$BINARIES_DIR/amlogic-boot-fip
device=$(sed -n 's/^BR2_PACKAGE_HOST_AMLOGIC_BOOT_FIP_DEVICE="\(.*\)"$/\1/p' "$BR2_CONFIG")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$tools" && ./build-fip.sh "$device" "$BINARIES_DIR/u-boot.bin" "$work")
install -m 644 "$work/u-boot.bin" "$BINARIES_DIR/u-boot.fip.bin"
