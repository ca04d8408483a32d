"""The pure parts of docker's other words: units, usage, filters, names of places."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wherry.cli.container_copy import split_place
from wherry.cli.container_events import line
from wherry.core.errors import InvalidInput, Unsupported, UsageError
from wherry.core.value import replace
from wherry.engine.processes import read_process
from wherry.engine.pruning import Filters
from wherry.engine.spec import ContainerConfig, ContainerSpec
from wherry.engine.systemd_units import UnitOptions, join, run_command, unit_text
from wherry.engine.usage import Sample, between, parse_net_dev
from wherry.engine.volume_mounts import Volume, check
from wherry.spec.container import Mount, MountType, PortMapping


def config(**given: object) -> ContainerConfig:
    spec = ContainerSpec(image="busybox", name="web", **given)  # type: ignore[arg-type]
    return ContainerConfig(
        id="a" * 64, name="web", created_s=0.0, image="busybox", commit="b" * 64, argv=("httpd",), spec=spec
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("web:/etc", ("web", "/etc")),
        ("web:etc", ("web", "etc")),
        ("./web:etc", (None, "./web:etc")),
        ("/web:etc", (None, "/web:etc")),
        ("plain", (None, "plain")),
        ("-", (None, "-")),
    ],
)
def test_places(text: str, wanted: tuple[str | None, str]) -> None:
    assert split_place(text) == wanted


def test_a_place_needs_a_path() -> None:
    with pytest.raises(UsageError, match="no path"):
        split_place("web:")


def test_a_unit_quotes_what_systemd_would_expand() -> None:
    assert (
        join(["a", "b c", "", "50%", "$HOME", 'q"', "\\", "x\ny"]) == 'a "b c" "" "50%%" "$$HOME" "q\\"" "\\\\" "x\\ny"'
    )


def test_the_command_makes_the_same_container() -> None:
    made = config(
        env={"A": "b"},
        mounts=(Mount(type=MountType.BIND, source="/srv", target="/srv", read_only=True),),
        ports=(PortMapping(container_port=80, host_port=8080, host_ip="127.0.0.1"),),
        args=("httpd", "-f"),
        entrypoint=("/init", "--"),
        no_new_privileges=False,
    )
    assert run_command(made) == [
        *("run", "--rm", "--name", "web", "-e", "A=b", "-v", "/srv:/srv:ro", "-p", "127.0.0.1:8080:80/tcp"),
        *("--security-opt", "no-new-privileges=false", "--entrypoint", "/init", "busybox", "--", "httpd", "-f"),
    ]


def test_what_no_flag_can_say_is_refused() -> None:
    with pytest.raises(Unsupported, match="layers"):
        run_command(config(layers=("/x",)))


def test_a_unit_has_its_options() -> None:
    options = UnitOptions(restart_policy="always", restart_sec=3, after=("db.service",), no_header=True)
    text = unit_text(config(), options, command=["/usr/bin/wherry"], version="1")
    assert text.startswith("[Unit]\n")
    assert "After=network-online.target db.service" in text
    assert "RestartSec=3" in text
    assert "ExecStart=/usr/bin/wherry start --attach web\n" in text


def test_usage_between_two_samples() -> None:
    first = Sample(at_ns=0, cpu_ns=0, memory_bytes=50, memory_limit_bytes=200)
    used = between(first, replace(first, at_ns=1_000_000_000, cpu_ns=1_500_000_000))
    assert (used.cpu_percent, used.memory_percent) == (150.0, 25.0)
    assert between(None, first).cpu_percent == 0.0
    assert between(first, first).cpu_percent == 0.0


def test_loopback_is_no_traffic() -> None:
    head = "Inter-| Receive | Transmit\n face |bytes packets\n"
    text = f"{head}    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n"
    assert parse_net_dev(text) == (10, 20)
    assert parse_net_dev("") == (0, 0)


def test_filters_of_prune() -> None:
    wanted = Filters.parse(["label=a", "label!=b=c", "until=1970-01-01T00:01:40Z"])
    assert wanted.fits({"a": "1"}, 99.0)
    assert not wanted.fits({"a": "1"}, 101.0)
    assert not wanted.fits({"a": "1", "b": "c"}, 1.0)
    assert wanted.fits({"a": "1", "b": "d"}, 1.0)
    with pytest.raises(UsageError, match="not supported"):
        Filters.parse(["name=x"])
    with pytest.raises(UsageError, match="not a time"):
        Filters.parse(["until=soon"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"nope": "1"}, "no option 'nope'"),
        ({"type": "ext4", "device": "/dev/sda"}, "is not supported"),
        ({"type": "none", "device": "/x"}, "needs o=bind"),
        ({"o": "bind"}, "device= is missing"),
        ({"o": "bind", "device": "x"}, "absolute"),
        ({"type": "tmpfs", "o": "size=1m,evil=1"}, "no option 'evil'"),
    ],
)
def test_options_of_volumes(options: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        check(Volume(name="v", options=options))


def test_a_process_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    fields = " ".join(["S", "1", "7", "7", "34816", *["0"] * 6, "150", "50", *["0"] * 6, "100", *["0"] * 30])
    (folder / "stat").write_text(f"7 (a) b) {fields}")
    (folder / "cmdline").write_bytes(b"evil\0\x1b[2J\0")
    found = read_process(7, ticks=100, boot_s=1000.0, proc=str(tmp_path))
    assert found is not None
    assert (found.ppid, found.tty, found.cpu_s, found.started_s) == (1, "pts/0", 2.0, 1001.0)
    assert found.command == "evil ?[2J"
    assert found.uid == os.getuid()
    assert read_process(8, ticks=100, boot_s=0.0, proc=str(tmp_path)) is None


def test_an_event_cannot_write_to_the_terminal() -> None:
    event = {"Type": "container", "Action": "x", "timeNano": 0, "Actor": {"ID": "a", "Attributes": {"k": "\x1b[2J\n"}}}
    assert "\x1b" not in line(event)
    assert "\n" not in line(event)
