FROM debian AS one
FROM debian
WORKDIR /app
COPY a b* dir/ ./
COPY --from=one --chown=app:app --chmod=0644 --link /etc/x /etc/x
COPY --from=0 --parents --exclude=*.md --exclude=docs /usr/./share/*/x /copy/
COPY ["with space", "/with space"]
