"""Compose files: every supported key, and a table of bad ones with the line that each error names."""

from __future__ import annotations

import pytest

from wherry.core.errors import InvalidInput
from wherry.revision.compose import Service, parse_compose, parse_compose_file
from wherry.spec.container import (
    Healthcheck,
    Mount,
    MountType,
    PortMapping,
    Resources,
    RestartName,
    RestartPolicy,
)

_FULL = b"""\
name: kiosk
x-common: &common
  restart: unless-stopped
  environment:
    TZ: UTC
services:
  web:
    <<: *common
    image: web:1.0
    command: ["httpd", "-f"]
    entrypoint: /entry.sh --flag "two words"
    ports:
      - 22:22
      - "127.0.0.1:8080:80/tcp"
      - "53:53/udp"
      - 9000
      - "7000-7001:8000-8001"
      - target: 443
        published: "8443"
        protocol: tcp
        mode: host
        host_ip: 10.0.0.1
    volumes:
      - data:/var/lib/web:ro
      - /srv/media:/media/
      - type: tmpfs
        target: /cache
        tmpfs: {size: 1m, mode: 1777}
      - {type: volume, source: data, target: /again, read_only: true}
    tmpfs: [/run, "/tmp:size=64m,mode=1777"]
    user: 1000:1000
    working_dir: /srv//www/
    depends_on:
      db: {condition: service_healthy}
    deploy: {resources: {limits: {memory: 64m, cpus: "0.5", pids: 50}}}
    cap_add: [NET_ADMIN, CAP_SYS_TIME]
    cap_drop: [ALL]
    read_only: true
    x-note: ignored
  db:
    image: registry.example:5000/db@sha256:0000000000000000000000000000000000000000000000000000000000000000
    environment: [PRICE=5$$, EMPTY=, "A=b=c"]
    network_mode: none
    restart: on-failure:3
    healthcheck: {test: pg_isready, interval: 10s, timeout: 500ms, retries: 2, start_period: 1m30s}
    depends_on: [cache]
  cache:
    image: cache
    command:
    restart: no
    healthcheck: {disable: true}
volumes:
  data:
"""


def test_every_key() -> None:
    found = parse_compose_file(_FULL)
    assert found.name == "kiosk"
    assert found.volumes == ("data",)
    web, db, cache = found.services.values()
    assert web == Service(
        image="web:1.0",
        image_where="compose.yaml:9:12",
        command=("httpd", "-f"),
        entrypoint=("/entry.sh", "--flag", "two words"),
        environment={"TZ": "UTC"},
        ports=(
            PortMapping(container_port=22, host_port=22),
            PortMapping(container_port=80, host_port=8080, host_ip="127.0.0.1"),
            PortMapping(container_port=53, host_port=53, protocol="udp"),
            PortMapping(container_port=9000),
            PortMapping(container_port=8000, host_port=7000),
            PortMapping(container_port=8001, host_port=7001),
            PortMapping(container_port=443, host_port=8443, host_ip="10.0.0.1"),
        ),
        mounts=(
            Mount(type=MountType.VOLUME, source="data", target="/var/lib/web", read_only=True),
            Mount(type=MountType.BIND, source="/srv/media", target="/media"),
            Mount(type=MountType.TMPFS, target="/cache", tmpfs_size_bytes=1 << 20, tmpfs_mode=0o1777),
            Mount(type=MountType.VOLUME, source="data", target="/again", read_only=True),
            Mount(type=MountType.TMPFS, target="/run"),
            Mount(type=MountType.TMPFS, target="/tmp", tmpfs_size_bytes=64 << 20, tmpfs_mode=0o1777),
        ),
        user="1000:1000",
        working_dir="/srv/www",
        depends_on={"db": "service_healthy"},
        restart=RestartPolicy(name=RestartName.UNLESS_STOPPED),
        resources=Resources(memory_bytes=64 << 20, milli_cpus=500, pids=50),
        cap_add=("NET_ADMIN", "SYS_TIME"),
        cap_drop=("ALL",),
        read_only=True,
    )
    assert db.environment == {"PRICE": "5$", "EMPTY": "", "A": "b=c"}
    assert db.network_mode == "none"
    assert db.restart == RestartPolicy(name=RestartName.ON_FAILURE, max_retries=3)
    assert db.healthcheck == Healthcheck(
        test=("CMD-SHELL", "pg_isready"), interval_ms=10_000, timeout_ms=500, retries=2, start_period_ms=90_000
    )
    assert db.depends_on == {"cache": "service_started"}
    assert cache.command is None
    assert cache.restart == RestartPolicy()
    assert cache.healthcheck == Healthcheck(test=("NONE",))


@pytest.mark.parametrize("text", ["", "# nothing\n", "services:\n", "services: {}\n", "---\n", "~\n"])
def test_no_services(text: str) -> None:
    assert parse_compose(text.encode()) == {}


def test_values_are_the_text_in_the_file() -> None:
    text = b"services: {a: {image: i, environment: {V: 1.10, O: 010, B: yes, D: 2001-01-01, Q: '22:22', S: 22:22}}}"
    environment = parse_compose(text)["a"].environment
    assert environment == {"V": "1.10", "O": "010", "B": "yes", "D": "2001-01-01", "Q": "22:22", "S": "22:22"}


def test_merge_keys_as_yaml_says() -> None:
    text = b"""\
x-a: &a {image: one, user: a, restart: always}
x-b: &b {image: two, user: b, working_dir: /b}
services:
  s:
    user: own
    <<: [*a, *b]
"""
    found = parse_compose(text)["s"]
    assert (found.image, found.user, found.working_dir) == ("one", "own", "/b")
    assert found.restart.name is RestartName.ALWAYS


def _service(line: str) -> str:
    return f"services:\n  web:\n    image: web\n    {line}\n"


_BAD_SERVICES = [  # (line 4 of a file, column, what the message must say)
    ("comand: x", 5, r"services.web.comand: unknown key.*did you mean 'command'"),
    ("enviroment: {}", 5, r"did you mean 'environment'"),
    ("build: .", 5, r"services.web.build: Wherry does not support this key.*image import"),
    ("privileged: true", 5, r"does not support.*cap_add"),
    ("mem_limit: 5m", 5, r"does not support.*deploy.resources.limits"),
    ("image: again", 5, r"services.web.image: key stands twice, first on line 3"),
    ("command: {a: b}", 14, r"services.web.command: must be text"),
    ("command: 'a \"b'", 14, r"cannot be split into words: no closing quotation"),
    ("command: echo ${HOME}", 14, r"variables are not filled in.*\$\$"),
    ("environment: [HOME]", 19, r"environment\[0\]: HOME has no value"),
    ("environment: {HOME: }", 19, r"environment.HOME: HOME has no value"),
    ("environment: {A: [x]}", 22, r"environment.A: must be text, not a list"),
    ("environment: text", 18, r"must be a list, not text"),
    ("environment: [A=1, A=2]", 24, r"A stands twice"),
    ('ports: ["80:http"]', 13, r"not a port: 'http'"),
    ('ports: ["0:80"]', 13, r"a port is a number from 1 to 65535"),
    ('ports: ["70000"]', 13, r"a port is a number from 1 to 65535"),
    ('ports: ["1:2:3:4"]', 13, r"not a port"),
    ('ports: ["80/sctp"]', 13, r"no protocol 'sctp'"),
    ('ports: ["8-9:80"]', 13, r"2 host ports for 1"),
    ('ports: ["9-8:9-8"]', 13, r"runs backwards"),
    ('ports: ["1-9999:1-9999"]', 13, r"more than 256 ports"),
    ('ports: ["300.1.1.1:80:80"]', 13, r"not an IP address"),
    ('ports: ["[::1]:80:80"]', 13, r"IPv6"),
    ('ports: ["8080:80", "8080:81"]', 12, r"host port 8080/tcp is taken by 'web'"),
    ("ports: [{published: 80}]", 13, r"target is missing"),
    ("ports: [{target: 80, name: web}]", 26, r"unknown key"),
    ("ports: 8080:80", 12, r"must be a list, not text"),
    ("volumes: [data:/x]", 15, r"volume 'data' is not declared.*under volumes"),
    ("volumes: [./www:/www]", 15, r"does not have your folder './www'.*config/APP"),
    ("volumes: [~/www:/www]", 15, r"does not have your folder"),
    ("volumes: [/www]", 15, r"a volume without a name"),
    ("volumes: [/a:/b:z]", 15, r"no such option: 'z'.*ro and rw"),
    ("volumes: [/a:relative]", 15, r"not an absolute path"),
    ("volumes: [/a:/b/../../c]", 15, r"not an absolute path"),
    ("volumes: [/a:/]", 15, r"nothing can be mounted over /"),
    ("volumes: [/a:/x, /b:/x/]", 22, r"two mounts at /x"),
    ("volumes: [{type: npipe, source: a, target: /x}]", 22, r"'npipe' is not one of bind, volume, tmpfs"),
    ("volumes: [{type: bind, source: rel, target: /x}]", 36, r"does not have your folder"),
    ("volumes: [{type: tmpfs, source: a, target: /x}]", 37, r"a tmpfs has no source"),
    ("user: a:b:c", 11, r"not a user"),
    ("working_dir: srv", 18, r"not an absolute path"),
    ("depends_on: [db]", 17, r"services.web.depends_on: no service 'db'"),
    ("depends_on: [web]", 17, r"wait for each other: web -> web"),
    ("depends_on: {web: {condition: ready}}", 35, r"'ready' is not one of service_started"),
    ("depends_on: {web: {}}", 18, r"condition is missing"),
    ("healthcheck: {test: [true]}", 25, r"must begin with CMD"),
    ("healthcheck: {test: [CMD]}", 25, r"wrong number of words"),
    ("healthcheck: {test: x, interval: 5 bananas}", 38, r"not a duration"),
    ("healthcheck: {test: x, interval: 0s}", 38, r"more than nothing"),
    ("healthcheck: {test: x, retries: -1}", 37, r"whole number from 1"),
    ("healthcheck: {test: x, retrys: 1}", 28, r"unknown key.*did you mean 'retries'"),
    ("healthcheck: {disable: true, interval: 5s}", 44, r"has no effect"),
    ("restart: sometimes", 14, r"'sometimes' is not one of no, on-failure"),
    ("restart: always:3", 14, r"not a restart policy"),
    ("restart: on-failure:0", 14, r"not a restart policy"),
    ("deploy: {replicas: 2}", 14, r"does not support"),
    ("deploy: {resources: {limits: {memory: lots}}}", 43, r"not a size"),
    ("deploy: {resources: {limits: {cpus: 0}}}", 41, r"between 0.001 and"),
    ("deploy: {resources: {limits: {cpus: NaN}}}", 41, r"between 0.001 and"),
    ("deploy: {resources: {limits: {pids: 1.5}}}", 41, r"whole number"),
    ("deploy: {resources: {reservations: {}}}", 26, r"does not support.*limits"),
    ("cap_add: [NET_ADMINS]", 15, r"no capability 'NET_ADMINS'.*did you mean 'NET_ADMIN'"),
    ("read_only: 'true'", 16, r"must be true or false"),
    ("tmpfs: ['/run:uid=0']", 13, r"no such option: 'uid=0'"),
    ("network_mode: service:db", 19, r"is not one of bridge, none, host"),
    ('network_mode: host\n    ports: ["80:80"]', 12, r"ports cannot be published with network_mode: host"),
]


@pytest.mark.parametrize(("line", "column", "message"), _BAD_SERVICES, ids=[bad[0] for bad in _BAD_SERVICES])
def test_a_bad_service_is_refused_by_line(line: str, column: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as error:
        parse_compose(_service(line).encode())
    number = 4 + line.count("\n")
    assert error.value.where == f"compose.yaml:{number}:{column}"
    assert "\n" not in str(error.value)


_BAD_FILES = [
    (b"servces: {}", "1:1", r"servces: unknown key.*did you mean 'services'"),
    (b"version: '3'\nservices: {}", "1:1", r"version: .*remove the line"),
    (b"\nnetworks: {}", "2:1", r"network_mode"),
    (b"services: []", "1:11", r"services: must be a mapping"),
    (b"- a", "1:1", r"must be a mapping"),
    (b"services:\n  web:\n", "2:7", r"services.web: must be a mapping .* not nothing"),
    (b"services:\n  web: {}\n", "2:8", r"services.web: image is missing"),
    (b"services:\n  'a b': {image: i}\n", "2:3", r"not a name"),
    (b"services:\n  ../etc: {image: i}\n", "2:3", r"not a name"),
    (b"services:\n  a: {image: ''}\n", "2:14", r"not the name of an image"),
    (b"services:\n  a: {image: x y}\n", "2:14", r"not the name of an image"),
    (b"services:\n  a: {image: i}\n  a: {image: j}\n", "3:3", r"services.a: key stands twice, first on line 2"),
    (b"services:\n  ? [x]\n  : {}\n", "2:5", r"a key must be text"),
    (b"volumes: {data: {driver: nfs}}", "1:18", r"volumes.data.driver"),
    (b"volumes: {'..': }", "1:11", r"not a volume's name"),
    (b"name: 'a/b'", "1:7", r"not a name"),
    (b"services:\n\t- x", "2:1", r"not YAML"),
    (b"a: [", "1:5", r"not YAML"),
    (b"a: 1\n---\nb: 2\n", "2:1", r"not YAML: but found another document"),
    (b"services: !!python/object:os.system {}", "1:11", r"a YAML tag is not supported"),
    (b"services: !reset {}", "1:11", r"a YAML tag is not supported"),
    (b"a: *nowhere", "1:4", r"not YAML: found undefined alias"),
    (b"a: 1\nb: \xff", "2:1", r"not UTF-8"),
]


@pytest.mark.parametrize(("data", "place", "message"), _BAD_FILES, ids=[repr(bad[0])[:40] for bad in _BAD_FILES])
def test_a_bad_file_is_refused_by_line(data: bytes, place: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as error:
        parse_compose(data)
    assert error.value.where == f"compose.yaml:{place}"


def test_a_circle_of_three_is_named() -> None:
    text = b"""\
services:
  a: {image: i, depends_on: [b]}
  b: {image: i, depends_on: [c]}
  c: {image: i, depends_on: [b]}
"""
    with pytest.raises(InvalidInput, match="b -> c -> b") as error:
        parse_compose(text)
    assert error.value.where == "compose.yaml:4:29"


def test_ports_of_two_services_clash_only_on_one_address() -> None:
    text = "services:\n  a: {image: i, ports: ['%s:80:80']}\n  b: {image: i, ports: ['%s:80:80']}\n"
    assert len(parse_compose((text % ("10.0.0.1", "10.0.0.2")).encode())) == 2
    with pytest.raises(InvalidInput, match=r"host port 80/tcp is taken by 'a'"):
        parse_compose((text % ("10.0.0.1", "0.0.0.0")).encode())


def _aliases(levels: int) -> bytes:
    lines = ["x-0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"x-{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, levels)]
    lines.append(f"services: {{a: {{image: i, command: *l{levels - 1}}}}}")
    return "\n".join(lines).encode()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_aliases(9), "must be text, not a list"),
        (b"services: &a\n  web: *a\n", "unknown key|nested deeper"),
        (b"services: {a: {image: i, environment: &e {<<: *e, A: b}}}", "merges too deeply"),
        (b"x: " + b"[" * 50_000, "nested deeper than"),
        (b"x: " + b"{a: " * 5_000, "nested deeper than"),
        (b"- " * 10_000 + b"x", "nested deeper than"),
        (b"services: {a: {image: i, cap_add: [" + b"KILL," * 30_000 + b"]}}", "more than 20000 values"),
        (b"x" * 300_000, "longer than 262144 bytes"),
        (b"services: {a: {image: i, command: '" + b"x" * 70_000 + b"'}}", "longer than 65536 characters"),
        (b"a: \x00", "not YAML"),
    ],
    ids=["aliases", "self", "merge-self", "deep-list", "deep-map", "deep-block", "wide", "long", "scalar", "nul"],
)
def test_bombs_are_refused_soon(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_compose(data)


@pytest.mark.timeout(20)
def test_aliases_that_grow_through_merges_are_bounded() -> None:
    lines = ["x-0: &m0 {" + ", ".join(f"K{n}: v" for n in range(20)) + "}"]
    lines += [f"x-{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 20)}]}}" for n in range(1, 6)]
    lines.append("services: {a: {image: i, environment: *m5}}")
    with pytest.raises(InvalidInput, match="aliases make more than"):
        parse_compose("\n".join(lines).encode())
