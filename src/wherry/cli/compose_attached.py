"""``up`` without -d: the output of all containers, until they have ended or somebody stops them.

The main thread waits for news alone: ends of containers, signals. Output comes by a thread for each container, and
stopping, which may take as long as the containers want, by one more; so a second Ctrl-C is heard at any time.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from wherry.cli.compose_context import teller
from wherry.core.errors import WherryError

if TYPE_CHECKING:
    from types import FrameType

    from wherry.engine.compose.model import Project
    from wherry.engine.compose.up import Wish
    from wherry.engine.engine import Engine
    from wherry.engine.info import ContainerInfo

EXIT_INTERRUPTED = 130


class Attached:
    """Shows the output, and stops all at the end.

    Args:
        engine: of the containers.
        project: what is to be.
        wish: what ``up`` is asked to do.
        given: its options by name.
    """

    def __init__(self, engine: Engine, project: Project, wish: Wish, given: dict[str, Any]) -> None:
        from wherry.cli.compose_output import Lines
        from wherry.engine.compose.following import Following

        self._engine, self._project, self._wish, self._given = engine, project, wish, given
        self._tell = teller()
        colour = False if given["no_color"] else None
        names = [f"{name}-1" for name in project.services]
        self._lines = Lines(names, colour=colour, prefix=not given["no_log_prefix"], timestamps=given["timestamps"])
        self._following = Following(engine, self._show, since_s=time.time())
        self._ours: dict[str, ContainerInfo] = {}
        self._making = True
        """Containers are still being made: a signal breaks that off."""
        self._signals = 0
        self._status: int | None = None
        self._stopping = self._stopped = False

    def _show(self, info: ContainerInfo, entry: Any) -> None:
        from wherry.engine.compose import labels

        service = info.labels.get(labels.SERVICE, "")
        shown = service in self._given["attach"] if self._given["attach"] else service not in self._given["no_attach"]
        if shown and self._project.services.get(service, {}).get("attach", True):
            self._lines.show(info, entry)

    def _started(self, info: ContainerInfo) -> None:
        self._ours[info.id] = info
        self._following.add(info)

    def run(self) -> int:
        """Makes the project so and stays with it; returns the exit status of the command."""
        from dataclasses import replace

        from wherry.engine.compose.project import lock
        from wherry.engine.compose.up import up as make

        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            try:
                with lock(self._engine.paths, self._project.name):
                    make(self._engine, self._project, replace(self._wish, started=self._started), self._tell)
            except KeyboardInterrupt:
                self._stop()
            except WherryError:
                self._stop()
                self._loop()
                raise
            return self._loop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._making and not self._stopping:
            self._making = False
            raise KeyboardInterrupt
        self._following.news.put("signal")

    def _loop(self) -> int:
        from wherry.cli.compose_output import label_of
        from wherry.engine.compose.following import Ended

        self._making = False
        if self._signals and not self._stopping:
            self._stop()
        while self._following.alive or (self._stopping and not self._stopped):
            news = self._following.news.get()
            if news == "stopped":
                self._stopped = True
            elif news == "signal":
                self._kill() if self._stopping else self._stop()
            elif isinstance(news, Ended):
                self._following.ended(news.info)
                self._lines_end(label_of(news.info), news.exit_code)
                self._judge(news)
        if self._stopping:
            self._worker.join()
        if self._status is not None:
            return self._status
        return EXIT_INTERRUPTED if self._signals else 0

    def _lines_end(self, label: str, code: int) -> None:
        sys.stdout.flush()
        print(f"{label} exited with code {code}", flush=True)

    def _judge(self, ended: Any) -> None:
        from wherry.engine.compose import labels

        service = ended.info.labels.get(labels.SERVICE, "")
        source = self._given["exit_code_from"]
        if source and service == source and (self._status is None or not self._stopping):
            self._status = ended.exit_code
        failed = self._given["abort_on_container_failure"] and ended.exit_code != 0
        if self._stopping or self._signals:
            if source and service == source:
                self._status = ended.exit_code
            return
        if self._given["abort_on_container_exit"] or source or failed:
            if not source:
                self._status = ended.exit_code
            self._tell("Aborting", "on container exit", "Stopping")
            self._stop()

    # --- the end

    def _members(self) -> list[Any]:
        from wherry.engine.compose.project import members

        return [item for item in members(self._engine, self._project.name) if item.info.id in self._ours]

    def _stop(self) -> None:
        from wherry.engine.compose.down import stop

        self._stopping = True
        if self._signals:
            print("Gracefully stopping... (press Ctrl+C again to force)", file=sys.stderr, flush=True)

        def work() -> None:
            try:
                stop(self._engine, self._members(), self._tell, timeout_s=self._wish.timeout_s)
            except WherryError as error:
                print(f"wherry: {error}", file=sys.stderr, flush=True)
            finally:
                self._following.news.put("stopped")

        self._worker = threading.Thread(target=work, daemon=True)
        self._worker.start()

    def _kill(self) -> None:
        from wherry.engine.compose.down import kill

        kill(self._engine, self._members(), self._tell, signal.SIGKILL)
