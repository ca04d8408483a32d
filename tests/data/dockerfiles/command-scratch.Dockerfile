FROM scratch
CMD lost
ENTRYPOINT ["/init", "--"]
CMD kept | cat
