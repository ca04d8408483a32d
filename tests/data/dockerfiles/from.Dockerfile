ARG VERSION=12
ARG NAME
FROM --platform=linux/arm64 debian:${VERSION} AS base
FROM base
FROM ${NAME:-alpine}@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa AS third
FROM scratch
COPY --from=base / /base/
COPY --from=third / /third/
