"""What goes in and out of a container while it runs: its output to the log and to whoever is there, input to it."""

from __future__ import annotations

from wherry.engine.logwriter import STREAMS
from wherry.engine.loop import IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.engine.keep import Keep, Sink
    from wherry.engine.limbo import Limbo
    from wherry.engine.logwriter import LogWriter
    from wherry.engine.loop import Loop
    from wherry.engine.streams import Streams
    from wherry.engine.unfinished import Unfinished


class Flow:
    """The streams of one container, on a loop.

    Args:
        loop: what it waits on.
        container_id: whose.
        log: gets all output.
        unfinished: keeps the beginnings of lines.
        limbo: how output is taken where this process may be killed and the container lives on; None reads it.
        keep: who else holds the streams.
        drained: called when the container has ended and all that it printed is taken.
    """

    def __init__(
        self,
        loop: Loop,
        container_id: str,
        *,
        log: LogWriter,
        unfinished: Unfinished,
        limbo: Limbo | None,
        keep: Keep,
        drained: Callable[[], None],
    ) -> None:
        self._loop, self._id = loop, container_id
        self.log, self.unfinished = log, unfinished
        self._limbo, self._keep, self._drained = limbo, keep, drained
        self.streams: Streams | None = None
        """Those of this run of the container; None between two runs."""
        self.ended = False
        """Whether the container has ended, and what it printed last is all that is to come."""
        self.sinks: list[Sink] = []

    @property
    def busy(self) -> bool:
        """Whether a sink has not taken all yet."""
        return any(sink.busy for sink in self.sinks)

    def stop(self) -> None:
        """Waits for nothing any more."""
        if self.streams is not None:
            for fd in {*self.streams.outputs, self.streams.stdin_fd} - {-1}:
                self._loop.forget(fd)

    def settle(self) -> None:
        """Loads the beginnings of lines, and writes what another process left in the limbo."""
        for stream, text in zip(STREAMS, self.unfinished.load(), strict=True):
            self.log.partial[stream] = text
        if self._limbo is not None and self._limbo.owner() == self._id:
            self._limbo.settle(self.log, self.unfinished)

    def leave(self) -> None:
        """Keeps the beginnings of lines for another process, and writes nothing more."""
        for index, stream in enumerate(STREAMS):
            self.unfinished.keep(index, self.log.partial[stream])
        self.stop()
        self.log.leave()

    def close(self) -> None:
        """Ends a run: closes its streams."""
        self.stop()
        if self.streams is not None:
            self.streams.close()
            self.streams = None
        self.ended = False

    def let_output_flow(self) -> None:
        """Waits for output, or not, as the sinks can take it; a sink calls it when that changes."""
        streams = self.streams
        if streams is None:
            return
        wanted = not any(sink.busy for sink in self.sinks)
        backlog = streams.backlog
        for fd in {*streams.outputs, streams.stdin_fd} - {-1}:
            mask = (IN if wanted and fd in streams.outputs else 0) | (OUT if backlog and fd == streams.stdin_fd else 0)
            if mask:
                self._loop.watch(fd, self._on_stream(fd), mask)
            else:
                self._loop.forget(fd)  # not an empty mask: a hang-up would still be told, over and over
        if self.ended and not streams.outputs:
            self._drained()

    def _on_stream(self, fd: int) -> Callable[[int], None]:
        def ready(events: int) -> None:
            streams = self.streams
            if streams is None:
                return
            if fd == streams.stdin_fd and streams.backlog:
                self._flush(streams, fd)
            if fd in streams.outputs and events & ~OUT:
                self._read(streams, fd)

        return ready

    def _flush(self, streams: Streams, fd: int) -> None:
        """Hands waiting input on; whoever has more reads on when all is gone."""
        self._loop.forget(fd)  # it is closed when all is gone and no more is to come
        streams.flush()
        if streams.stdin_fd != fd:
            self._keep.drop(f"{self._id}/stdin")
        self.let_output_flow()
        if not streams.backlog:
            for sink in list(self.sinks):
                sink.take_more()

    def _read(self, streams: Streams, fd: int) -> None:
        name = streams.outputs[fd]
        data = self._take(streams, fd, name)
        if data is None:
            return
        if not data:
            self._loop.forget(fd)
            streams.close_output(fd)
            if self.ended and not streams.outputs:
                self._drained()
            return
        for sink in list(self.sinks):
            sink.send(name, data)
        if any(sink.busy for sink in self.sinks):
            self.let_output_flow()

    def end_output(self, name: str) -> None:
        """Has nobody read what the container writes to ``stdout`` or ``stderr``: it gets EPIPE; a terminal stays."""
        streams = self.streams
        for fd in [fd for fd, own in streams.outputs.items() if own == name] if streams is not None else ():
            if streams is not None and fd != streams.master_fd:
                self._loop.forget(fd)
                streams.close_output(fd)

    def _take(self, streams: Streams, fd: int, name: str) -> bytes | None:
        if self._limbo is not None:
            return self._limbo.move(self._id, STREAMS.index(name), fd, self.log, self.unfinished)
        data = streams.read(fd)
        if data:
            self.log.write(name, data)
        return data

    @property
    def takes_input(self) -> bool:
        """Whether more input can be given now."""
        return self.streams is not None and not self.streams.backlog

    def feed(self, data: bytes) -> None:
        """Gives the container input."""
        streams = self.streams
        if streams is not None:
            before = streams.stdin_fd
            if before != streams.master_fd:
                self._loop.forget(before)  # it is closed when nobody reads it any more
            streams.feed(data)
            if streams.stdin_fd != before:
                self._keep.drop(f"{self._id}/stdin")
            self.let_output_flow()

    def end_input(self) -> None:
        """Lets the container read the end of its input."""
        streams = self.streams
        if streams is not None:
            before = streams.stdin_fd
            if before >= 0 and before != streams.master_fd:
                self._loop.forget(before)
                self._keep.drop(f"{self._id}/stdin")
            streams.end_input()
            self.let_output_flow()

    def resize(self, rows: int, columns: int) -> None:
        """Sets the size of its terminal."""
        if self.streams is not None:
            self.streams.resize(rows, columns)
