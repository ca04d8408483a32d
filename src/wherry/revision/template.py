"""The files that ``wherry init`` writes: short, valid as they are, and an explanation of themselves."""

from __future__ import annotations


def manifest_text(name: str) -> str:
    """Returns a ``wherry.yaml`` for a project."""
    return f"""\
# The device. All keys: docs/reference/project.md
name: {name}

# When may a device call a new revision healthy?
health:
  timeout: 2m         # by then every app is up and every health check passes; else the device rolls back
  stable: 5s          # and for so long nothing restarts
  require_hub: true   # the hub must be reached from the new revision
"""


COMPOSE_TEXT = """\
# The apps, in the Compose specification. Supported keys: docs/reference/project.md
# Files below config/APP/ lie over /etc of that app.
services: {}

# services:
#   web:
#     image: web:1.0              # as named by: wherry image import FILE --name web:1.0
#     command: ["httpd", "-f"]
#     environment:
#       TZ: UTC
#     ports:
#       - "8080:80"
#     volumes:
#       - data:/var/lib/web
#     healthcheck:
#       test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"]
#       interval: 10s
#     restart: unless-stopped
#     deploy:
#       resources:
#         limits: {memory: 64m, cpus: "0.5"}
#
# volumes:
#   data:
"""
