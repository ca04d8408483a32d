"""Docker's flags and what they mean."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from wherry.cli import container_list as show
from wherry.cli import container_options as parse
from wherry.cli.container_descriptors import check_once, preserved_fds
from wherry.cli.container_filters import Surroundings, matches, parse_filters
from wherry.cli.docker_shape import listed, span
from wherry.cli.output import print_table
from wherry.core.errors import InvalidInput, NotFound, UsageError
from wherry.core.value import replace
from wherry.engine.info import ContainerInfo, describe
from wherry.engine.isolation import DeviceMapping, Security, Ulimit
from wherry.engine.person import parse_detach_keys
from wherry.engine.records import LastRun, RunState
from wherry.engine.spec import BareSettings, ContainerSpec, LogLimits, resolve
from wherry.runtime.resources import DeviceRule
from wherry.spec.container import DeviceRate, Healthcheck, PortMapping, RestartName, RestartPolicy


def test_env(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# no\n\nA=1\n  B=2 3\nHANDED\nMISSING\n")
    found = parse.parse_env(["A=own", "E=", "HOME"], [str(file)], {"HANDED": "h", "HOME": "/root"})
    assert found == {"A": "own", "B": "2 3", "HANDED": "h", "E": "", "HOME": "/root"}
    file.write_text("A=1\nnot a name=2\n")
    with pytest.raises(InvalidInput, match=":2"):
        parse.parse_env([], [str(file)], {})


def test_numbers() -> None:
    assert [parse.parse_cpus(text) for text in ("2", "0.5", "1.2345", ".".join(("0", "01")))] == [2000, 500, 1234, 10]
    for text in ("0", "x", "-1", "0.001"):
        with pytest.raises(UsageError):
            parse.parse_cpus(text)
    assert parse.parse_log_options(["max-size=1m", "max-file=2"]) == LogLimits(max_bytes=1 << 20, files=2)
    with pytest.raises(UsageError):
        parse.parse_log_options(["tag=x"])


def test_restart() -> None:
    assert parse.parse_restart("on-failure:3") == RestartPolicy(name=RestartName.ON_FAILURE, max_retries=3)
    assert parse.parse_restart("always") == RestartPolicy(name=RestartName.ALWAYS)
    for text in ("sometimes", "always:3", "on-failure:x"):
        with pytest.raises(UsageError):
            parse.parse_restart(text)


def test_security(tmp_path: Path) -> None:
    assert parse.parse_security([]) == Security()
    found = parse.parse_security(["no-new-privileges=false", "seccomp=unconfined", "apparmor:mine", "label=disable"])
    assert (found.no_new_privileges, found.seccomp, found.apparmor) == (False, False, "mine")
    assert parse.parse_security(["no-new-privileges:true"]).no_new_privileges
    assert parse.parse_security(["systempaths=unconfined"]).unmasked == ("ALL",)
    assert parse.parse_security(["unmask=/proc/acpi:/sys/firmware", "mask=/etc/x"]) == Security(
        masked=("/etc/x",), unmasked=("/proc/acpi", "/sys/firmware")
    )
    profile = tmp_path / "profile.json"
    profile.write_text("{}")
    assert parse.parse_security([f"seccomp={profile}"]).seccomp_profile == "{}"
    assert parse.parse_security(["seccomp=builtin"]) == Security()
    with pytest.raises(NotFound, match="profile of system calls"):
        parse.parse_security(["seccomp=/nowhere"])
    for text in ("label=type:x", "no-new-privileges=maybe", "colour=red", "seccomp"):
        with pytest.raises(UsageError):
            parse.parse_security([text])


def test_devices() -> None:
    assert parse.parse_device("/dev/fuse") == DeviceMapping(source="/dev/fuse", target="/dev/fuse")
    assert parse.parse_device("/dev/a:/dev/b:r") == DeviceMapping(source="/dev/a", target="/dev/b", access="r")
    assert parse.parse_device("/dev/a:rw") == DeviceMapping(source="/dev/a", target="/dev/a", access="rw")
    assert parse.parse_device_rule("c 189:* rwm") == DeviceRule(allow=True, type="c", major=189)
    for text in ("fuse", "/dev/a:b", "/dev/a:/dev/b:x", "vendor.com/gpu=0"):
        with pytest.raises(UsageError):
            parse.parse_device(text)
    for text in ("c 1:3", "x 1:3 rwm", "c 1 rwm", "c 1:x rwm", "c 1:3 q"):
        with pytest.raises(UsageError):
            parse.parse_device_rule(text)


def test_rates_and_limits() -> None:
    assert parse.parse_rates(["/dev/sda:1mb"], "--device-read-bps", sizes=True) == (
        DeviceRate(path="/dev/sda", rate=1 << 20),
    )
    assert parse.parse_ulimit("nofile=10:20") == Ulimit(name="nofile", soft=10, hard=20)
    assert parse.parse_ulimit("core=-1") == Ulimit(name="core", soft=-1, hard=-1)
    assert parse.parse_processors("0,2-3") == (0, 2, 3)
    assert parse.parse_processors("0x5") == (0, 2)
    assert parse.parse_pairs(["a=b=c"], "--sysctl") == {"a": "b=c"}
    for wrong in (
        lambda: parse.parse_rates(["sda:1"], "--device-read-iops", sizes=False),
        lambda: parse.parse_ulimit("nofile"),
        lambda: parse.parse_ulimit("nofile=x"),
        lambda: parse.parse_processors(""),
        lambda: parse.parse_processors("3-1"),
        lambda: parse.parse_processors("9999999"),
        lambda: parse.parse_pairs(["x"], "--sysctl"),
        lambda: parse.parse_attach(["stdlog"]),
        lambda: parse.parse_groups(["keep-groups"]),
        lambda: parse.parse_groups(["a:b"]),
        lambda: parse.whole("1_0", "--x"),
    ):
        with pytest.raises(UsageError):
            wrong()


def test_keys() -> None:
    assert parse_detach_keys("ctrl-p,CTRL-Q") == b"\x10\x11"
    assert parse_detach_keys("a,ctrl-[") == b"a\x1b"
    assert parse_detach_keys("") == b""
    for text in ("ctrl-", "ctrl-pp", "ctrl-ä", "a,", "ä"):
        with pytest.raises(InvalidInput, match="--detach-keys"):
            parse_detach_keys(text)


def test_descriptors_to_be_handed_down() -> None:
    assert preserved_fds("0") == ()
    for text in ("-1", "x", "257"):
        with pytest.raises(UsageError, match="--preserve-fds"):
            preserved_fds(text)
    check_once(detached=False, restart="no")
    for detached, restart in ((True, ""), (False, "always")):
        with pytest.raises(UsageError, match="no longer than this command"):
            check_once(detached=detached, restart=restart)


def test_label_files(tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("# no\n\na=b\n c\n")
    assert parse.parse_label_files([str(file)]) == ["a=b", "c"]


def test_log_drivers() -> None:
    assert parse.parse_log_options([], "none").driver == "none"
    for driver in ("journald", "nonsense"):
        with pytest.raises(UsageError, match="log-driver"):
            parse.parse_log_options([], driver)


def test_health() -> None:
    nothing = {"interval": None, "timeout": None, "retries": None, "start_period": None}
    assert parse.health_check(None, off=False, **nothing) is None
    assert parse.health_check(None, off=True, **nothing) == Healthcheck(test=("NONE",))
    found = parse.health_check("a", off=False, interval="1s", timeout="2s", retries=4, start_period="1m")
    assert found == Healthcheck(
        test=("CMD-SHELL", "a"), interval_ms=1000, timeout_ms=2000, retries=4, start_period_ms=60_000
    )


def test_since() -> None:
    assert parse.parse_since("90", 1000) == 90
    assert parse.parse_since("10s", 1000) == 990
    assert parse.parse_since("1970-01-01T00:00:05Z", 1000) == 5
    with pytest.raises(UsageError):
        parse.parse_since("yesterday", 1000)


def info(run: RunState | None = None, last: LastRun | None = None) -> ContainerInfo:
    spec = ContainerSpec(image="i", args=("sh", "-c", "a long command line"), labels={"a": "1", "b": ""})
    config = resolve(
        spec,
        BareSettings(),
        container_id="0123456789ab" + "0" * 52,
        name="web",
        created_s=0,
        image="docker.io/library/busybox:1",
        commit="c" * 64,
    )
    return describe(config, run, last)


def test_columns() -> None:
    running = RunState(
        status="running",
        supervisor_pid=1,
        started_s=0,
        health="healthy",
        ports=(
            PortMapping(container_port=80, host_port=8080),
            PortMapping(container_port=1, host_port=2, host_ip="1.2.3.4"),
        ),
    )
    cells = show.row(info(running))
    assert cells[:3] == ("0123456789ab", "busybox:1", '"sh -c a long co…"')
    assert cells[3].endswith(" ago")
    assert cells[4].endswith("(healthy)")
    assert cells[5:] == ("8080->80/tcp, 1.2.3.4:2->1/tcp", "web")
    assert show.row(info())[4] == "Created"
    assert show.row(info(last=LastRun(started_s=1, finished_s=2, exit_code=3)))[4].startswith("Exited (3) ")


def test_the_table_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    long = (
        "0123456789ab",
        "registry.example/" + "x" * 30,
        '"' + "y" * 20 + '"',
        "120 min ago",
        "Exited (137) 120 min ago",
    )
    print_table(show.HEAD, [(*long, "0.0.0.0:8000-8010->80-90/tcp", "compose-web-" + "z" * 20)], shrink=show.SHRINK)
    lines = capsys.readouterr().out.splitlines()
    assert [len(line) <= 80 for line in lines] == [True, True], lines
    assert lines[1].startswith("0123456789ab  registr…  ")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "Less than a second"),
        (1.9, "1 second"),
        (59.9, "59 seconds"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_spans_in_dockers_words(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_fields_of_a_row_are_dockers() -> None:
    made_s = time.time() - 200
    shown = listed(replace(info(), created_s=made_s), truncate=True, networks=())
    assert shown["RunningFor"] == "3 minutes ago"
    ended = info(last=LastRun(started_s=1, finished_s=made_s, exit_code=3))
    assert listed(ended, truncate=True, networks=())["Status"] == "Exited (3) 3 minutes ago"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([], True),
        (["label=a"], True),
        (["label=a=1", "label=b"], True),
        (["label=a=2"], False),
        (["name=we"], True),
        (["name=x", "name=we"], True),
        (["status=created"], True),
        (["status=running", "status=exited"], False),
        (["id=0123"], True),
        (["ancestor=busybox:1"], True),
        (["ancestor=cccc"], True),
        (["health=none"], True),
        (["name=we", "status=running"], False),
    ],
)
def test_filters(filters: list[str], found: bool) -> None:
    assert matches(info(), parse_filters(filters)) is found


def test_ports_of_a_range_are_one() -> None:
    ports = [PortMapping(container_port=80 + step, host_port=8000 + step) for step in range(3)]
    other = PortMapping(container_port=53, host_port=53, host_ip="::1", protocol="udp")
    assert show.ports_text([*ports, other]) == "8000-8002->80-82/tcp, [::1]:53->53/udp"
    assert show.ports_text([ports[0], ports[2]]) == "8000->80/tcp, 8002->82/tcp"


def test_filters_of_what_is_around() -> None:
    ended = info(last=LastRun(started_s=1, finished_s=2, exit_code=3))
    assert matches(ended, parse_filters(["exited=3"]))
    assert not matches(ended, parse_filters(["exited=0"]))
    assert not matches(info(), parse_filters(["exited=0"]))
    made_s = info().created_s
    around = Surroundings(
        names=lambda _: ("back",), ids=lambda: {"back": "ab" * 32}, created_s=lambda name: made_s + float(name)
    )
    for text, found in (
        ("before=1", True), ("before=-1", False), ("before=0", False), ("since=-1", True), ("since=0", False),
        ("network=back", True), ("network=abab", True), ("network=a", False), ("network=bridge", False),
    ):  # fmt: skip
        assert matches(info(), parse_filters([text]), around) is found, text
    published = info(
        RunState(
            status="running", supervisor_pid=1, started_s=1, ports=(PortMapping(container_port=80, host_port=8080),)
        )
    )
    for text, found in (
        ("publish=8080", True), ("publish=8000-8100/tcp", True), ("publish=8080/udp", False), ("publish=80", False),
        ("expose=80", True), ("expose=81-90", False), ("volume=data", False),
    ):  # fmt: skip
        assert matches(published, parse_filters([text])) is found, text


@pytest.mark.parametrize("text", ["label", "colour=red", "status=odd", "exited=x", "publish=80/sctp", "expose=a-b"])
def test_bad_filters(text: str) -> None:
    with pytest.raises(UsageError):
        parse_filters([text])


def test_json_has_every_field() -> None:
    found = show.full(info())
    assert found["exit_code"] is None
    assert found["config"]["spec"]["read_only"] is False
    assert show.summary(info())["ports"] == []
