FROM debian
ENTRYPOINT ["/init", "--"]
CMD ["serve", "a b"]
