FROM scratch
SHELL ["/bin/bash", "-c"]
CMD c d
