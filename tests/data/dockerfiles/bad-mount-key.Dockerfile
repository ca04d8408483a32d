FROM a
RUN --mount=type=tmpfs,target=/x,sharing=locked y
