"""The switch: bringing the device's containers to what one revision asks for, and nothing else.

One procedure serves the switch to a candidate, the way back, and the start after a reboot: stop what the revision
does not have, start what it has and does not run. It looks at what is there and not at what was done before, so it
may be cut short anywhere and run again; a container that runs is never started, and one that stays is never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wherry.core import durable
from wherry.core.digest import Checksum, parse_checksum
from wherry.core.errors import Conflict, NotFound, Unhealthy, WherryError
from wherry.device.apps import (
    COMPLETED,
    HEALTHY,
    LABEL_REVISION,
    AppKey,
    by_key,
    is_one_shot,
    key_of,
    keys_of,
    spec_of,
    start_order,
)
from wherry.device.deployments import Deployments
from wherry.device.interfaces import Container, Containers, Waiter
from wherry.device.paths import DevicePaths
from wherry.device.points import Point, reach
from wherry.spec.container import App, RestartName
from wherry.spec.revision import Revision

MAX_LOG_LINES = 20
MAX_LOG_CHARS = 1500
MAX_STOPS_AT_ONCE = 16
RUNNING = frozenset({"running", "restarting"})
_POLL_S = 0.1
_RUNS_BY_ITSELF = frozenset({RestartName.ALWAYS, RestartName.UNLESS_STOPPED})

Note = Callable[[str], None]


class Switch:
    """Brings containers to what a revision asks for.

    Args:
        paths: the device's folder.
        containers: the engine.
        deployments: where configuration is laid out.
        waiter: for waiting on an app that another one depends on.
        boot_id: of this boot of the machine.
        note: takes lines for the journal.
    """

    def __init__(
        self,
        paths: DevicePaths,
        containers: Containers,
        deployments: Deployments,
        waiter: Waiter,
        *,
        boot_id: str,
        note: Note,
    ) -> None:
        self._marks = paths.started
        self._containers = containers
        self._deployments = deployments
        self._waiter = waiter
        self._boot_id = boot_id
        self._note = note

    def create_missing(self, commit: Checksum, revision: Revision) -> None:
        """Makes the containers that the revision needs and that are not there; starts nothing.

        Raises:
            WherryError: the engine cannot make one.
        """
        present = by_key(self._containers.list())
        for name in start_order(revision):
            app = revision.apps[name]
            if keys_of(revision)[name] not in present:
                config = self._deployments.config_folder(app)
                self._containers.create(spec_of(name, app, revision=commit, config=config))
                reach(Point.STAGE_CREATED)

    def changed(self, revision: Revision) -> tuple[str, ...]:
        """Returns the apps of a revision that do not run yet, by name."""
        present = by_key(self._containers.list())
        running = {key for key, container in present.items() if container.status in RUNNING}
        return tuple(name for name, key in sorted(keys_of(revision).items()) if key not in running)

    def stop_others(self, revision: Revision | None) -> None:
        """Stops every container that the revision does not have, those that depend on others before these."""
        wanted = set() if revision is None else set(keys_of(revision).values())
        doomed = {
            key: container
            for key, container in by_key(self._containers.list()).items()
            if key not in wanted and container.status in RUNNING
        }
        while doomed:
            needed = {name for key, container in doomed.items() for name in self._needs(key, container)}
            wave = [key for key in doomed if key.app not in needed] or list(doomed)
            self._stop({key: doomed.pop(key) for key in wave})

    def start_all(self, revision: Revision, *, deadline_s: float, patient: bool = False) -> None:
        """Starts every app of the revision that does not run, in order, each when what it depends on is ready.

        Args:
            revision: its containers are made.
            deadline_s: by the waiter's clock; until then an app waits for another.
            patient: whether to go on with the other apps when one fails, and to raise at the end.

        Raises:
            Unhealthy: an app did not start, or one that it depends on is not ready in time.
        """
        problems: list[str] = []
        for name in start_order(revision):
            try:
                if not self._needs_start(revision, name):
                    continue
                self._await_others(revision, name, deadline_s)
                self._start(name, revision.apps[name], keys_of(revision)[name])
            except WherryError as error:
                problem = f"app {name}: {_reason(error)}"
                if not patient:
                    raise Unhealthy(problem) from error
                problems.append(problem)
        if problems:
            raise Unhealthy("; ".join(problems))

    def stop_all(self) -> int:
        """Stops everything, and returns how many containers ran."""
        running = sum(container.status in RUNNING for container in self._containers.list())
        self.stop_others(None)
        return running

    def of(self, revision: Revision) -> dict[str, Container]:
        """Returns the containers of a revision by the app's name; an app without one is left out."""
        present = by_key(self._containers.list())
        return {name: present[key] for name, key in keys_of(revision).items() if key in present}

    def remove_others(self, keep: Collection[Revision]) -> int:
        """Removes every container that no revision of `keep` has, and returns how many."""
        wanted = {key for revision in keep for key in keys_of(revision).values()}
        gone = [item for item in by_key(self._containers.list()).items() if item[0] not in wanted]
        for key, container in gone:
            self._containers.remove(container.id)
            durable.remove_file(self._mark(key))
        return len(gone)

    def last_words(self, revision: Revision, app: str) -> str:
        """Returns the last lines that an app printed, bounded; empty when there are none."""
        container = self.of(revision).get(app)
        if container is None:
            return ""
        try:
            text = self._containers.log_tail(container.id, MAX_LOG_LINES).strip()
        except WherryError:
            return ""  # the reason matters more than its illustration
        return text[-MAX_LOG_CHARS:]

    def _needs_start(self, revision: Revision, name: str) -> bool:
        container = self.of(revision).get(name)
        if container is None:
            return True
        app = revision.apps[name]
        return container.status not in RUNNING and not self._had_its_run(app, key_of(name, app), container)

    def _start(self, name: str, app: App, key: AppKey) -> None:
        container = by_key(self._containers.list()).get(key)
        if container is None:
            raise NotFound("its container is gone", hint="the next attempt makes it again")
        reach(Point.SWITCH_STARTING)
        try:
            self._containers.start(container.id)
        except Conflict:
            found = by_key(self._containers.list()).get(key)
            if found is None or found.status not in RUNNING:
                raise  # not because it runs: its port is taken, for example
        if is_one_shot(app):
            durable.make_dirs(self._marks)
            durable.write_file(self._mark(key), self._boot_id.encode())
        self._note(f"started {name}")
        reach(Point.SWITCH_STARTED)

    def _stop(self, wave: Mapping[AppKey, Container]) -> None:
        reach(Point.SWITCH_STOPPING)
        for key in wave:
            durable.remove_file(self._mark(key))
        # at the same time: each may take its whole grace period, and nothing is served meanwhile
        with ThreadPoolExecutor(max_workers=MAX_STOPS_AT_ONCE) as pool:
            for stopped in [pool.submit(self._containers.stop, container.id) for container in wave.values()]:
                stopped.result()
        self._note(f"stopped {', '.join(sorted(key.app for key in wave))}")
        reach(Point.SWITCH_STOPPED)

    def _needs(self, key: AppKey, container: Container) -> tuple[str, ...]:
        """Returns the other apps that a container depends on, as the revision says that it was made for."""
        try:
            made_for = self._deployments.load(parse_checksum(container.labels.get(LABEL_REVISION, "")))
        except WherryError:
            return ()  # that revision is gone; the app is older than it
        app = made_for.apps.get(key.app)
        return () if app is None else tuple(app.depends_on)

    def _had_its_run(self, app: App, key: AppKey, container: Container) -> bool:
        # A one-shot that was started in this boot and not stopped by the device has had its run, however it ended;
        # in another boot it is an app like any other. Anything else that has ended lost its supervisor: start it.
        if container.status != "exited" or app.restart.name in _RUNS_BY_ITSELF:
            return False
        try:
            return self._mark(key).read_text() == self._boot_id
        except FileNotFoundError:
            return False

    def _mark(self, key: AppKey) -> Path:
        return self._marks / key.container_name

    def _await_others(self, revision: Revision, name: str, deadline_s: float) -> None:
        for other, condition in sorted(revision.apps[name].depends_on.items()):
            while (problem := _not_ready(self.of(revision).get(other), condition)) is not None:
                final, text = problem
                if final or self._waiter.now() >= deadline_s:
                    raise Unhealthy(f"depends on {other}, which {text}")
                self._waiter.pause(_POLL_S)


def boot_id() -> str:
    """Returns the kernel's id of this boot (random(4), ``/proc/sys/kernel/random/boot_id``)."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _not_ready(container: Container | None, condition: str) -> tuple[bool, str] | None:
    if container is None:
        return True, "has no container"
    if condition == HEALTHY:
        if container.health == "healthy" and container.status == "running":
            return None
        if container.health == "unhealthy":
            return True, "is unhealthy"
        if container.health == "" and container.status == "running":
            return True, "has no health check"
        return False, "is not healthy yet"
    if condition == COMPLETED:
        if container.status != "exited":
            return False, "has not completed yet"
        return None if container.exit_code == 0 else (True, f"ended with status {container.exit_code}")
    return (False, "was not started") if container.status == "created" else None


def _reason(error: WherryError) -> str:
    return error.what if error.where is None else f"{error.what}: {error.where}"
