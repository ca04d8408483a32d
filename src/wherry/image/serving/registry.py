"""The registry: a request comes in, an answer goes out. No server, no socket; the hub can stand before it as well.

Read-only by default: what would change the store is answered as if it were not there to be done (405).

Source: OCI distribution-spec 1.1, "Endpoints"; docker registry HTTP API V2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wherry.core import jsonio
from wherry.core.errors import (
    Conflict,
    IntegrityError,
    InvalidInput,
    NoSpace,
    NotFound,
    NotPermitted,
    WherryError,
)
from wherry.image.serving.access import Door, Right
from wherry.image.serving.messages import Answer, Code, Gone, Refused, Request
from wherry.image.serving.pushing import Pushing
from wherry.image.serving.reading import Reading
from wherry.image.serving.routes import Kind, Route, parse_route
from wherry.image.serving.shelf import Shelf
from wherry.image.serving.uploads import Uploads

if TYPE_CHECKING:
    from wherry.store.repository import Repository

VERSION_HEADER = {"Docker-Distribution-Api-Version": "registry/2.0"}
_READS = ("GET", "HEAD")


class Registry:
    """An endpoint over one repository. Several threads may ask at once.

    Args:
        repo: the repository.
        door: who may do what.
        push: whether images can be pushed.
        delete: whether what was pushed can be removed.
        report: told about errors that are no fault of the client.
    """

    def __init__(
        self,
        repo: Repository,
        door: Door,
        *,
        push: bool = False,
        delete: bool = False,
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        shelf = Shelf(repo)
        self._door, self._delete, self._report = door, delete, report
        self._reading = Reading(shelf)
        self._uploads = Uploads(repo) if push else None
        self._pushing = Pushing(shelf, self._uploads) if self._uploads is not None else None

    def answer(self, request: Request) -> Answer:
        """Answers one request. Whatever happens, there is an answer.

        Raises:
            Gone: there is nobody who would take one.
        """
        try:
            answer = self._answer(request)
        except Refused as refused:
            answer = refused.answer()
        except WherryError as error:
            answer = self._failed(error).answer()
        except Gone:
            raise
        except Exception as error:  # noqa: BLE001 one request must not end the endpoint
            self._report(f"{request.method} {request.path[:200]}: {type(error).__name__}: {error}")
            answer = Refused(Code.UNKNOWN, "internal error").answer()
        headers = {**VERSION_HEADER, "X-Content-Type-Options": "nosniff", **answer.headers}
        return Answer(status=answer.status, headers=headers, body=answer.body)

    def tidy(self) -> None:
        """Gives up uploads that rest; to be called now and then."""
        if self._uploads is not None:
            self._uploads.expire()

    def close(self) -> None:
        """Gives up all uploads."""
        if self._uploads is not None:
            self._uploads.close()

    def _answer(self, request: Request) -> Answer:
        route = parse_route(request.path)
        if route is None:
            raise Refused(Code.UNSUPPORTED, "no such path", detail=request.path[:200], status=404)
        reads = request.method in _READS and route.kind is not Kind.UPLOAD
        if route.kind is Kind.TOKEN and reads:
            return _json(self._door.token(request))
        user = self._door.who(request)
        if route.kind is Kind.BASE:
            self._door.greet(request)
        if reads or self._pushing is not None:  # else it is not a question of rights
            self._door.check(Right.READ if reads else Right.PUSH, user, request, route.name)
        return self._read(request, route) if reads else self._change(request, route)

    def _read(self, request: Request, route: Route) -> Answer:
        if route.kind is Kind.BASE:
            return _json({})
        if route.kind is Kind.MANIFEST:
            return self._reading.manifest(request, route)
        if route.kind is Kind.BLOB:
            if self._pushing is not None:
                return self._pushing.read_blob(request, route)
            return self._reading.blob(request, route)
        if route.kind is Kind.TAGS:
            return self._reading.tags(request, route)
        if route.kind is Kind.REFERRERS:
            return self._reading.referrers(request, route)
        return self._reading.catalog(request)

    def _change(self, request: Request, route: Route) -> Answer:
        pushing = self._pushing
        if pushing is None:
            raise Refused(Code.UNSUPPORTED, "this endpoint is read-only", headers={"Allow": "GET, HEAD"})
        way = (route.kind, request.method, bool(route.upload))
        if way == (Kind.UPLOAD, "POST", False):
            return pushing.begin(request, route)
        if way == (Kind.UPLOAD, "PATCH", True):
            return pushing.append(request, route)
        if way == (Kind.UPLOAD, "PUT", True):
            return pushing.finish(request, route)
        if way == (Kind.UPLOAD, "DELETE", True):
            return pushing.cancel(route)
        if way in ((Kind.UPLOAD, "GET", True), (Kind.UPLOAD, "HEAD", True)):
            return pushing.progress(route)
        if way == (Kind.MANIFEST, "PUT", False):
            return pushing.manifest(request, route)
        if request.method == "DELETE" and route.kind in (Kind.MANIFEST, Kind.BLOB):
            if not self._delete:
                raise Refused(Code.UNSUPPORTED, "nothing is removed by this endpoint")
            return pushing.remove_manifest(route) if route.kind is Kind.MANIFEST else pushing.remove_blob(route)
        raise Refused(Code.UNSUPPORTED, f"{request.method[:20]} is not done there")

    def _failed(self, error: WherryError) -> Refused:
        """Returns an error of the store as a refusal; what concerns the machine is told to its owner alone."""
        if isinstance(error, NotFound):
            return Refused(Code.UNKNOWN, error.what, status=404)
        if isinstance(error, InvalidInput | IntegrityError):
            return Refused(Code.UNKNOWN, error.what, status=400)
        if isinstance(error, Conflict):
            return Refused(Code.UNAVAILABLE, error.what, headers={"Retry-After": "5"})
        self._report(str(error))
        if isinstance(error, NoSpace):
            return Refused(Code.UNAVAILABLE, "there is no space left", status=507)
        if isinstance(error, NotPermitted):
            return Refused(Code.DENIED, "this endpoint may not do that")
        return Refused(Code.UNKNOWN, "internal error")


def _json(value: dict[str, Any]) -> Answer:
    return Answer(headers={"Content-Type": "application/json"}, body=jsonio.compact(value))
