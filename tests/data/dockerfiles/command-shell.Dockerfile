FROM debian
CMD lost
ENTRYPOINT exec "$@"
CMD kept | cat
