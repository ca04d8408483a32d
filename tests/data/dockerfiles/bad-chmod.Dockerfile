FROM a
COPY --chmod=rwx a b
