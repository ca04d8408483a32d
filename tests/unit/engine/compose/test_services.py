"""From services to what the engine is asked, and the hash by which a change is seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.engine.compose.support import project

from wherry.core.errors import InvalidInput, NotFound
from wherry.engine.compose import labels
from wherry.engine.compose.services import config_hash, container_spec
from wherry.engine.spec import ContainerSpec, check
from wherry.engine.state import Paths
from wherry.spec.container import Healthcheck, PortMapping


def spec_of(
    folder: Path, text: str, *, top: str = "", number: int = 1, environment: dict[str, str] | None = None
) -> ContainerSpec:
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    found = project(
        folder, f"services:\n  o: {{image: i}}\n  s:\n    image: img\n{lines}{top}", environment=environment
    )
    made = container_spec(Paths(folder / "root", folder / "run"), found, "s", number, lambda name: f"id-of-{name}")
    check(made)
    return made


def test_names_labels_and_the_default_network(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "depends_on: {o: {condition: service_started, restart: true}}\nlabels: [a=b]", number=3)
    assert spec.name == "p-s-3"
    assert [(item.network, item.aliases) for item in spec.networks] == [("p_default", ("s",))]
    assert spec.labels["a"] == "b"
    assert spec.labels[labels.PROJECT] == "p"
    assert spec.labels[labels.SERVICE] == "s"
    assert spec.labels[labels.NUMBER] == "3"
    assert spec.labels[labels.ONE_OFF] == "False"
    assert spec.labels[labels.DEPENDS] == "o:service_started:true"
    assert spec.labels[labels.DIRECTORY] == str(tmp_path)
    assert spec.labels[labels.FILES] == str(tmp_path / "compose.yaml")


def test_many_keys(tmp_path: Path) -> None:
    spec = spec_of(
        tmp_path,
        """command: sleep 1
entrypoint: []
environment: [A=1]
volumes: [v:/v:ro, ./b:/b, /anon, {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 01777}}]
tmpfs: /run:mode=755
ports: ["8080:80", "9000-9009:90/udp"]
networks: {default: {ipv4_address: 10.1.2.3}, x: {aliases: [y], priority: 5}}
mac_address: 02:42:ac:11:00:03
mem_limit: 64m
memswap_limit: -1
cpus: 1.5
pids_limit: 10
cpuset: 0-1
cap_drop: [ALL]
security_opt: [no-new-privileges:false, apparmor=unconfined]
ulimits: {nofile: 1024}
sysctls: {net.core.somaxconn: 1024}
devices: [/dev/null:/dev/zero:r]
device_cgroup_rules: ['c 1:3 mr']
restart: on-failure:3
init: true
tty: true
stdin_open: true
stop_grace_period: 1500ms
stop_signal: SIGINT
logging: {options: {max-size: 1m, max-file: "2"}}
extra_hosts: [h=10.0.0.9, g=host-gateway]
dns: [1.1.1.1]
group_add: ["44"]
pid: service:o
ipc: shareable
shm_size: 32m
oom_score_adj: 100
user: "1000:1000"
working_dir: /w
healthcheck: {test: [CMD, x], interval: 5s, retries: 2}
""".replace("init: true\n", ""),
        top="volumes: {v: }\nnetworks: {x: }\n",
    )
    assert (spec.args, spec.entrypoint, spec.env) == (("sleep", "1"), (), {"A": "1"})
    mounts = {mount.target: mount for mount in spec.mounts}
    assert (mounts["/v"].source, mounts["/v"].read_only) == ("p_v", True)
    assert mounts["/b"].source == str(tmp_path / "b")
    assert mounts["/anon"].source == ""
    assert (mounts["/t"].tmpfs_size_bytes, mounts["/t"].tmpfs_mode, mounts["/run"].tmpfs_mode) == (
        1 << 20,
        0o1777,
        0o755,
    )
    assert spec.ports == (
        PortMapping(container_port=80, host_port=8080),
        PortMapping(container_port=90, host_port=9000, protocol="udp"),
    )
    assert [(item.network, item.ip, item.mac) for item in spec.networks] == [
        ("p_x", "", "02:42:ac:11:00:03"),
        ("p_default", "10.1.2.3", ""),
    ]
    assert spec.networks[0].aliases == ("s", "y")
    assert (spec.resources.memory_bytes, spec.resources.memory_swap_bytes) == (64 << 20, -1)
    assert (spec.resources.milli_cpus, spec.resources.pids, spec.resources.cpuset_cpus) == (1500, 10, "0-1")
    assert (spec.isolation.pid, spec.isolation.ipc, spec.no_new_privileges) == ("container:id-of-o", "shareable", False)
    assert (spec.stop_timeout_s, spec.stop_signal) == (2, "SIGINT")
    assert (spec.log.max_bytes, spec.log.files) == (1 << 20, 2)
    assert spec.add_hosts == ("10.0.0.9\th", "host-gateway\tg")
    assert (spec.restart.name, spec.restart.max_retries) == ("on-failure", 3)
    assert spec.healthcheck == Healthcheck(test=("CMD", "x"), interval_ms=5000, retries=2)


def test_a_part_of_a_volume(tmp_path: Path) -> None:
    long = "volumes: [{type: volume, source: v, target: /v, volume: {subpath: a/b}}]"
    (mount,) = spec_of(tmp_path, long, top="volumes: {v: {}}\n").mounts
    assert (mount.source, mount.subpath) == ("p_v", "a/b")


def test_deploy(tmp_path: Path) -> None:
    spec = spec_of(
        tmp_path,
        "deploy:\n  resources:\n    limits: {cpus: '0.5', memory: 50M, pids: 7}\n"
        "    reservations: {memory: 20M, cpus: '0.25'}\n  restart_policy: {condition: on-failure, max_attempts: 2}",
    )
    found = spec.resources
    assert (found.milli_cpus, found.memory_bytes, found.pids) == (500, 50 << 20, 7)
    assert (found.memory_reservation_bytes, found.cpu_shares) == (20 << 20, 256)
    assert (spec.restart.name, spec.restart.max_retries) == ("on-failure", 2)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("network_mode: host", "host"),
        ("network_mode: none", "none"),
        ("network_mode: bridge", "bridge"),
        ("network_mode: service:o", "container:id-of-o"),
        ("network_mode: container:x", "container:x"),
    ],
)
def test_network_modes(tmp_path: Path, text: str, network: str) -> None:
    spec = spec_of(tmp_path, text)
    assert (spec.network, spec.networks) == (network, ())


def test_a_range_of_host_ports_is_for_several_containers(tmp_path: Path) -> None:
    assert spec_of(tmp_path, "ports: ['9000-9001:90']", number=2).ports[0].host_port == 9001
    with pytest.raises(InvalidInput, match="no port for container 3"):
        spec_of(tmp_path, "ports: ['9000-9001:90']", number=3)


def test_links_give_names(tmp_path: Path) -> None:
    found = project(tmp_path, "services:\n  db: {image: i}\n  web: {image: i, links: ['db:database', db]}\n")
    paths = Paths(tmp_path / "root", tmp_path / "run")
    spec = container_spec(paths, found, "db", 1, str)
    assert spec.networks[0].aliases == ("db", "database")
    assert labels.waits_of(container_spec(paths, found, "web", 1, str).labels) == ("db",)


def test_configs_and_secrets(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("secret")
    top = "secrets: {a: {file: pw}, b: {environment: PW}}\nconfigs: {c: {content: 'x $PW'}}\n"
    text = "secrets: [a, {source: b, target: bb, mode: 0400, uid: '5'}]\nconfigs: [{source: c, target: /etc/c}]"
    spec = spec_of(tmp_path, text, top=top, environment={"PW": "1"})
    mounts = {mount.target: mount for mount in spec.mounts}
    assert mounts["/run/secrets/a"].source == str(tmp_path / "pw")
    assert mounts["/run/secrets/bb"].source.startswith(str(tmp_path / "root/compose/p/"))
    assert all(mount.read_only for mount in mounts.values())
    assert "/etc/c" in mounts
    with pytest.raises(NotFound, match="the variable PW is not set"):
        spec_of(tmp_path, text, top=top)


def test_what_changes_the_hash(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "root", tmp_path / "run")

    def hash_of(text: str, environment: dict[str, str] | None = None) -> str:
        found = project(tmp_path, f"services: {{s: {{image: i, {text}}}, o: {{image: i}}}}\n", environment=environment)
        return config_hash(paths, found, "s")

    base = hash_of("environment: {A: 1}")
    assert base == hash_of("environment: [A=1]") == hash_of("environment: {A: 1}, scale: 3")
    assert base == hash_of("environment: {A: 1}, depends_on: [o]"), "the order of starting is no property of it"
    for other in ("environment: {A: 2}", "environment: {A: 1}, user: x", "environment: {A: $V}"):
        assert hash_of(other, {"V": "9"}) != base


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("security_opt: [wrong]", "services.s: the option 'wrong' is not supported"),
        ("logging: {driver: syslog}", "the log driver 'syslog' is not there"),
        ("tmpfs: /x:wrong", "of a tmpfs is not supported"),
        ("device_cgroup_rules: [x]", "not a rule of devices"),
    ],
)
def test_refused_by_name_and_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        spec_of(tmp_path, text)
    assert "compose.yaml:" in str(caught.value)
