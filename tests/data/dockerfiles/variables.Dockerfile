FROM scratch
ENV V=/usr/lib/name.tar.gz
LABEL default=${X:-${Y:-none}} set=${V:+set} unset=${X+set}
