FROM scratch
VOLUME /data /var/log
VOLUME ["/with space"]
