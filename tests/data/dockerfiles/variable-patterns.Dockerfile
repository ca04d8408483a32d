FROM scratch
ENV V=/usr/lib/name.tar.gz
LABEL base=${V##*/} dir=${V%/*} stem=${V%%.*} tail=${V#*/} swap=${V//\//:} one=${V/usr/opt}
