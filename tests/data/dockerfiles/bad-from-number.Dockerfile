FROM a
COPY --from=5 / /
