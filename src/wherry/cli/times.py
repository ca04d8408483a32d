"""Points in time as people write them: what ``date`` prints, ISO 8601, and a few relative words.

Source: GNU coreutils manual, "Date input formats", of which ``ostree`` takes all; here is the part that scripts use.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from wherry.core.errors import UsageError

_UNITS_S = {"second": 1, "sec": 1, "minute": 60, "min": 60, "hour": 3600, "day": 86400, "week": 604800,
            "fortnight": 1209600, "month": 2629746, "year": 31556952}  # fmt: skip
_RELATIVE = re.compile(r"([-+]?\d*)\s*(second|sec|minute|min|hour|day|week|fortnight|month|year)s?(\s+ago)?\Z")
_WORDS_DAYS = {"now": 0, "today": 0, "yesterday": -1, "tomorrow": 1}
_FORMATS = ("%a %b %d %H:%M:%S %Y", "%a %d %b %Y %I:%M:%S %p", "%d %b %Y %H:%M:%S", "%d %b %Y", "%d %B %Y", "%b %d %Y",
            "%B %d %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y %H:%M:%S", "%B %d %Y %H:%M:%S", "%m/%d/%Y")  # fmt: skip
_ZONE = re.compile(r"(?:\s+|(?<=\d))(UTC|GMT|Z)\Z", re.IGNORECASE)
_MAX_S = 2**63 - 1


def parse(text: str, option: str) -> int:
    """Returns seconds since 1970.

    Args:
        text: ``@SECONDS``; ISO 8601 with or without a zone (local time then); what ``date`` or ``date -R`` prints;
            ``now``, ``yesterday``; ``2 days ago``, ``1 hour``.
        option: where it stands, for the error.

    Raises:
        UsageError: it is none of them.
    """
    stripped = text.strip()
    try:
        if stripped.startswith("@"):
            seconds = int(stripped[1:].partition(".")[0])
        else:
            relative = _relative(stripped.lower())
            seconds = int(_absolute(stripped).timestamp()) if relative is None else relative
        if not -_MAX_S <= seconds <= _MAX_S:
            raise ValueError(text)
        return seconds
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"Could not parse '{text}': {option} is no time", hint="write @SECONDS or 2025-01-31T12:00:00Z"
        ) from None


def _relative(text: str) -> int | None:
    if text in _WORDS_DAYS:
        return int(time.time()) + _WORDS_DAYS[text] * 86400
    match = _RELATIVE.match(text)
    if match is None:
        return None
    count = int(match[1] + "1") if match[1] in ("", "+", "-") else int(match[1])
    return int(time.time()) + count * _UNITS_S[match[2]] * (-1 if match[3] else 1)


def _absolute(text: str) -> datetime:
    try:
        return datetime.fromisoformat(_iso(text))
    except ValueError:
        pass
    zone = _ZONE.search(text)
    plain = text[: zone.start()] if zone else text
    # `date` puts the zone before the year: "Thu Oct 29 12:43:29 UTC 2005".
    inner = re.sub(r" (UTC|GMT) (\d{4})\Z", r" \2", plain)
    for form in _FORMATS:
        try:
            found = datetime.strptime(inner, form)  # noqa: DTZ007 the zone is set below
        except ValueError:
            continue
        return found.replace(tzinfo=UTC) if zone or inner != plain else found.astimezone()
    from email.utils import parsedate_to_datetime

    found = parsedate_to_datetime(text)
    return found if found.tzinfo else found.astimezone()


def _iso(text: str) -> str:
    """Makes of what coreutils takes what Python takes: ``2005-10-29 12:43:29 +0000``."""
    text = _ZONE.sub("+00:00", text)
    return re.sub(r"(\d) ([-+]\d\d:?\d\d)\Z", r"\1\2", text)
