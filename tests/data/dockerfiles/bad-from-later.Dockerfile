FROM a
COPY --from=b / /
FROM c AS b
FROM a
COPY --from=0 / /
