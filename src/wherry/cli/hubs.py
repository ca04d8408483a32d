"""What every command that speaks to a hub shares: where logins are kept, and how a client is made from one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry.revision.credentials import Credentials
    from wherry.revision.hubclient import HubClient

TOKEN_VARIABLE = "WHERRY_TOKEN"  # noqa: S105 the name of a variable


def credentials() -> Credentials:
    """Returns this person's logins: ``$XDG_CONFIG_HOME/wherry/credentials.json``."""
    from wherry.revision.credentials import Credentials

    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Credentials(Path(base) / "wherry" / "credentials.json")


def hub_client(url: str, *, ca_file: Path | None = None) -> HubClient:
    """Returns a client with the token of ``WHERRY_TOKEN``, else of the login at this hub, else without one."""
    from wherry.revision.hubclient import HubClient

    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        login = credentials().get(url)
        token = login.token if login else None
    return HubClient(url, token, ca_file)
