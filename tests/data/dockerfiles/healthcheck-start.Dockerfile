FROM scratch
HEALTHCHECK --start-period=1h --start-interval=500ms CMD ["/check"]
