"""The store beside the real ``ostree``: ``make bench-store``. Each row is one command line, run by both in turns.

Both read the same trees and the same repositories (made by ``ostree``), from the same web server. Cold: the page cache
is dropped before each run; warm: it is not. Every run begins after a sync. What is shown is the median; the ratio is
how many times as fast Wherry is. Memory is the peak of any run (wait4). Absolute times of a shared machine mean
little. Results go to ``build/bench/store.json``. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import trees
from benchmarks.plot import bars

from wherry.core.errors import ToolError
from wherry.core.proc import run

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "build/bench"
TOOLS = {"ostree": ["ostree"], "wherry": [str(Path(sys.executable).with_name("wherry")), "store"]}
MANY = 100_000


@dataclass
class Run:
    """What one run took."""

    seconds: float
    cpu_seconds: float
    rss_bytes: int


@dataclass
class Row:
    """One thing that both tools do."""

    name: str
    command: list[str]
    """Behind the program's name."""
    before: Callable[[], object] = lambda: None
    """Done before each run, unmeasured."""
    runs: int | None = None
    only: str = ""
    """``cold`` or ``warm``; else both."""
    found: dict[tuple[str, str], list[Run]] = field(default_factory=dict)
    """(tool, temperature) -> runs."""

    def median(self, tool: str, temperature: str, metric: str = "seconds") -> float | None:
        runs = self.found.get((tool, temperature))
        return statistics.median(getattr(run, metric) for run in runs) if runs else None

    def ratio(self, temperature: str, metric: str = "seconds") -> float | None:
        theirs, ours = self.median("ostree", temperature, metric), self.median("wherry", temperature, metric)
        return theirs / ours if theirs and ours else None

    def peak(self, tool: str) -> int:
        return max((run.rss_bytes for (name, _), runs in self.found.items() if name == tool for run in runs), default=0)


class Bench:
    """The repositories and the rows over them."""

    def __init__(self, folder: Path, old: Path, new: Path, url: str) -> None:
        self.folder = folder
        self.old = old
        self.new = new
        self.url = url
        self.target = folder / "target"

    # --- what is there before

    def repository(self, name: str, mode: str, *commits: tuple[str, Path]) -> Path:
        """Makes a repository by ostree, once."""
        path = self.folder / name
        if not path.exists():
            ostree("init", f"--repo={path}", f"--mode={mode}")
            for ref, tree in commits:
                ostree("commit", f"--repo={path}", "-b", ref, "-s", ref, "--timestamp=@0", f"--tree=dir={tree}")
        return path

    def archive(self) -> Path:
        """The repository behind the web server: both trees, and the delta between them."""
        path = self.folder / "served"
        if not path.exists():
            self.repository("served", "archive", ("old", self.old), ("new", self.new))
            ostree("static-delta", "generate", f"--repo={path}", "--from=old", "--to=new", "--max-chunk-size=32")
            ostree("summary", f"--repo={path}", "-u")
        return path

    def bare_user(self) -> Path:
        return self.repository("bare-user", "bare-user", ("old", self.old))

    def both(self) -> Path:
        return self.repository("both", "bare-user", ("old", self.old), ("new", self.new))

    # --- what is done before each run

    def clear(self) -> None:
        shutil.rmtree(self.target, ignore_errors=True)

    def fresh(self, mode: str) -> Callable[[], None]:
        """An empty repository, with the remote ``o``."""

        def prepare() -> None:
            self.clear()
            ostree("init", f"--repo={self.target}", f"--mode={mode}")
            self.add_remote(self.target)

        return prepare

    def copy(self, source: Callable[[], Path], *, without: str = "") -> Callable[[], None]:
        """A copy of a repository, by hard links; its objects are never changed, only added and removed."""

        def prepare() -> None:
            path = source()
            self.clear()
            run(["cp", "-al", str(path), str(self.target)])
            for name in ("config", ".lock"):
                if (path / name).exists():
                    (self.target / name).unlink()
                    shutil.copyfile(path / name, self.target / name)
            self.add_remote(self.target)
            if without:
                (self.target / "refs/heads" / without).unlink()

        return prepare

    def add_remote(self, path: Path) -> None:
        with open(path / "config", "a") as file:
            file.write(f'\n[remote "o"]\nurl={self.url}\ngpg-verify=false\n')

    # --- the rows

    def rows(self) -> list[Row]:
        repo = f"--repo={self.target}"
        commit = ["commit", repo, "-b", "x", "-s", "x", "--timestamp=@0", f"--tree=dir={self.old}"]
        archive, bare_user = f"--repo={self.folder / 'served'}", f"--repo={self.folder / 'bare-user'}"
        old_of_served = self.folder / "served"
        return [
            Row("commit to archive", commit, self.fresh("archive")),
            Row("commit to bare-user", commit, self.fresh("bare-user")),
            Row("same again, archive", commit, self.once("archive")),
            Row("same again, bare-user", commit, self.once("bare-user")),
            Row(
                "checkout, hard links",
                ["checkout", bare_user, "-U", "-H", "old", str(self.target)],
                self.then_clear("bare_user"),
            ),
            Row("checkout, archive", ["checkout", archive, "-U", "old", str(self.target)], self.then_clear("archive")),
            Row(
                "pull-local, links",
                ["pull-local", repo, str(self.folder / "bare-user"), "old"],
                self.also("bare_user", "bare-user"),
            ),
            Row(
                "pull-local, archive",
                ["pull-local", repo, str(old_of_served), "old"],
                self.also("archive", "bare-user"),
            ),
            Row("pull, HTTP", ["pull", repo, "o", "old"], self.also("archive", "bare-user")),
            Row("update, objects", ["pull", repo, "--disable-static-deltas", "o", "new"], self.update()),
            Row("update, delta", ["pull", repo, "--require-static-deltas", "o", "new"], self.update()),
            Row("fsck, bare-user", ["fsck", bare_user], lambda: self.bare_user()),
            Row("fsck, archive", ["fsck", archive], lambda: self.archive()),
            Row("prune, half goes", ["prune", repo, "--refs-only"], self.copy(self.both, without="new")),
            Row("prune, nothing", ["prune", repo, "--refs-only"], self.copy(self.both)),
            Row(
                "delta generation",
                ["static-delta", "generate", archive, "--from=old", "--to=new"],
                self.without_delta,
                runs=1,
                only="warm",
            ),
            *self.many(),
        ]

    def many(self) -> list[Row]:
        """A tree of very many files: what matters is the memory."""
        repo = f"--repo={self.target}"
        tree = self.folder / "many"

        def make() -> None:
            if not tree.exists():
                trees.many_files(tree, MANY)

        def fresh(mode: str) -> Callable[[], None]:
            def prepare() -> None:
                make()
                self.fresh(mode)()

            return prepare

        def served() -> None:
            make()
            self.archive()
            path = self.folder / "served"
            if not (path / "refs/heads/many").exists():
                ostree("commit", f"--repo={path}", "-b", "many", "-s", "x", "--timestamp=@0", f"--tree=dir={tree}")
                ostree("summary", f"--repo={path}", "-u")
            self.fresh("bare-user")()

        commit = ["commit", repo, "-b", "x", "-s", "x", "--timestamp=@0", f"--tree=dir={tree}"]
        return [
            Row("100,000 files: commit", commit, fresh("bare-user"), runs=1, only="warm"),
            Row("100,000 files: archive", commit, fresh("archive"), runs=1, only="warm"),
            Row("100,000 files: pull", ["pull", repo, "o", "many"], served, runs=1, only="warm"),
        ]

    def once(self, mode: str) -> Callable[[], None]:
        """A repository that has the commit already; a copy of it, so that each run finds the same."""
        return self.copy(lambda: self.repository(f"once-{mode}", mode, ("y", self.old)))

    def then_clear(self, what: str) -> Callable[[], None]:
        def prepare() -> None:
            getattr(self, what)()
            self.clear()

        return prepare

    def also(self, what: str, mode: str) -> Callable[[], None]:
        def prepare() -> None:
            getattr(self, what)()
            self.fresh(mode)()

        return prepare

    def update(self) -> Callable[[], None]:
        """A device that has the old commit, from the remote."""

        def source() -> Path:
            self.archive()
            path = self.folder / "device"
            if not path.exists():
                ostree("init", f"--repo={path}", "--mode=bare-user")
                ostree("pull-local", f"--repo={path}", "--remote=o", str(self.folder / "served"), "old")
            return path

        return self.copy(source)

    def without_delta(self) -> None:
        """Both tools make it anew; the last one stays for the rows that come after."""
        shutil.rmtree(self.archive() / "deltas", ignore_errors=True)


def ostree(*arguments: str) -> None:
    run(["ostree", *arguments])


def measure(tool: str, row: Row, folder: Path, *, cold: bool) -> Run:
    """Runs a row once."""
    row.before()
    os.sync()
    if cold:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    result, log = folder / "result.json", folder / "log"
    helper = [sys.executable, "-I", "-S", str(Path(__file__).with_name("measure.py"))]
    run([*helper, str(result), str(log), *TOOLS[tool], *row.command])
    found = json.loads(result.read_text())
    if found.pop("status"):
        raise ToolError(f"{tool} {' '.join(row.command)}\n{log.read_text(errors='replace')[-1000:]}")
    return Run(**found)


def bench(rows: list[Row], folder: Path, runs: int, temperatures: list[str]) -> None:
    """Runs all rows; the tools take turns, and turns in who begins."""
    for row in rows:
        begin = time.monotonic()
        failed: set[str] = set()
        for temperature in temperatures if not row.only else [row.only]:
            for number in range(row.runs or runs):
                for tool in list(TOOLS)[:: 1 if number % 2 else -1]:
                    if tool in failed:
                        continue
                    try:
                        taken = measure(tool, row, folder, cold=temperature == "cold")
                    except ToolError as error:
                        failed.add(tool)
                        print(f"  {row.name}: failed: {error}", file=sys.stderr)
                        continue
                    row.found.setdefault((tool, temperature), []).append(taken)
        print(f"  {row.name:<26}{time.monotonic() - begin:6.0f} s", file=sys.stderr, flush=True)
        save(rows, RESULTS / "store.json")


def table(rows: list[Row], metric: str = "seconds") -> str:
    """Returns the table; it has 79 columns."""
    unit = metric.replace("_", " ")
    lines = [
        f"{'':<24}{'cold, ' + unit:>24}{'warm, ' + unit:>24}  peak, MB",
        f"{'':<24}" + f"{'ostree':>8}{'wherry':>8}{'times':>8}" * 2 + "  ostr wher",
    ]
    for row in rows:
        cells = []
        for temperature in ("cold", "warm"):
            values = [row.median(tool, temperature, metric) for tool in TOOLS]
            cells += [f"{value:>8.2f}" if value is not None else f"{'':>8}" for value in values]
            ratio = row.ratio(temperature, metric)
            cells.append(f"{ratio:>7.1f}x" if ratio is not None else f"{'':>8}")
        memory = [row.peak(tool) // 1_000_000 for tool in TOOLS]
        lines.append(f"{row.name:<24}{''.join(cells)}{memory[0]:>6}{memory[1]:>5}")
    return "\n".join(lines)


def markdown(rows: list[Row], metric: str = "seconds") -> str:
    """Returns the table as Markdown: for each temperature the seconds of both, and how many times as fast Wherry is."""
    what = "processor time" if metric == "cpu_seconds" else "real time"
    runs = max((len(runs) for row in rows for runs in row.found.values()), default=0)
    lines = [
        f"Median of up to {runs} runs, {what} in seconds, ostree / wherry; {os.cpu_count()} cores; peak memory in MB.",
        "",
        "| row | cold | times | warm | times | peak |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [row.name]
        for temperature in ("cold", "warm"):
            values = [row.median(tool, temperature, metric) for tool in TOOLS]
            cells.append(" / ".join("–" if value is None else f"{value:.2f}" for value in values))
            ratio = row.ratio(temperature, metric)
            cells.append("–" if ratio is None else f"{ratio:.1f}")
        cells.append(" / ".join(str(row.peak(tool) // 1_000_000) for tool in TOOLS))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@contextmanager
def web_server(root: Path) -> Iterator[str]:
    """Serves a folder by nginx; gives its URL."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="wherry-bench-nginx-"))
    config = folder / "nginx.conf"
    config.write_text(
        f"user root; worker_processes 1; pid {folder}/pid; error_log {folder}/error; daemon off;\n"
        "events { worker_connections 512; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n"
        f"  client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;\n"
        f"  uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;\n"
        f"  server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
    )
    server = subprocess.Popen(["nginx", "-c", str(config), "-e", str(folder / "error")])
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/served"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def save(rows: list[Row], path: Path) -> None:
    """Writes everything down."""
    found = [
        {
            "name": row.name,
            "command": row.command,
            **{f"{tool}_{temperature}": [vars(run) for run in runs] for (tool, temperature), runs in row.found.items()},
            **{f"times_{temperature}": row.ratio(temperature) for temperature in ("cold", "warm")},
        }
        for row in rows
        if row.found
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")


def main() -> None:
    """Runs the rows that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="ROW", help="parts of rows' names; none: all rows")
    parser.add_argument("--runs", type=int, default=3, help="of each tool, in each temperature")
    parser.add_argument("--temperature", choices=("cold", "warm"), help="only this one")
    parser.add_argument("--trees", nargs=2, type=Path, metavar=("OLD", "NEW"), help="other trees than Debian's")
    parser.add_argument("--folder", type=Path, help="keep the repositories here, for the next time")
    parser.add_argument(
        "--cpu", action="store_true", help="tell processor time instead of real time: for a busy machine"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON, too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as Markdown")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the ratios")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the web server goes, too
    old, new = options.trees or trees.debian_pair()
    RESULTS.mkdir(parents=True, exist_ok=True)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="store-", dir=RESULTS))
    folder.mkdir(parents=True, exist_ok=True)
    temperatures = [options.temperature] if options.temperature else ["cold", "warm"]
    try:
        with web_server(folder.absolute()) as url:
            rows = Bench(folder.absolute(), old.absolute(), new.absolute(), url).rows()
            if options.names:
                rows = [row for row in rows if any(name in row.name for name in options.names)]
            if not rows:
                parser.error("no such row")
            bench(rows, folder, options.runs, temperatures)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)
    metric = "cpu_seconds" if options.cpu else "seconds"
    print(table(rows, metric))
    if options.markdown:
        options.markdown.write_text(markdown(rows, metric))
    if options.json:
        print((RESULTS / "store.json").read_text(), end="")
    if options.svg:
        options.svg.write_text(bars([(row.name, row.ratio("cold"), row.ratio("warm")) for row in rows]))


if __name__ == "__main__":
    main()
