#!/bin/sh -eu
# The resolver that systemd-resolved answers at.
ln -sf /run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"
