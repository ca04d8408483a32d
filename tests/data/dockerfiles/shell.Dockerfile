FROM debian
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN a | b
CMD c
