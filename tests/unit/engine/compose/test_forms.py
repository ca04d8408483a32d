"""Short forms and long forms come to the same; what is wrong is told with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.engine.compose.support import project, service

from wherry.core.errors import InvalidInput, NotFound


def port(target: int, published: str | None = None, **more: Any) -> dict[str, Any]:
    found = {"mode": "ingress", "protocol": "tcp", "target": target, **more}
    return found if published is None else {**found, "published": published}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ports: [80]", {"ports": [port(80)]}),
        ('ports: ["8080:80"]', {"ports": [port(80, "8080")]}),
        ("ports: [22:22]", {"ports": [port(22, "22")]}),
        ('ports: ["127.0.0.1:8080:80/udp"]', {"ports": [port(80, "8080", host_ip="127.0.0.1", protocol="udp")]}),
        ('ports: ["[::1]:8080:80"]', {"ports": [port(80, "8080", host_ip="::1")]}),
        ('ports: ["127.0.0.1::80"]', {"ports": [port(80, host_ip="127.0.0.1")]}),
        ('ports: ["3000-3001:80-81"]', {"ports": [port(80, "3000"), port(81, "3001")]}),
        ('ports: ["3000-3001:80"]', {"ports": [port(80, "3000-3001")]}),
        ("ports: [{target: 80, published: 8080, mode: host}]", {"ports": [port(80, "8080", mode="host")]}),
        ("volumes: [/data]", {"volumes": [{"type": "volume", "target": "/data"}]}),
        ("environment: [A=1, B=]", {"environment": {"A": "1", "B": ""}}),
        ("environment: {A: 1.10, B: yes, C: null, D: null}", {"environment": {"A": "1.10", "B": "yes", "D": "d"}}),
        ("command: a 'b c' d", {"command": ["a", "b c", "d"]}),
        ('command: ["a b", c]', {"command": ["a b", "c"]}),
        ("command: []", {"command": []}),
        ("depends_on: []", {"depends_on": {}}),
        ("extra_hosts: ['a:10.0.0.1', 'b=::1', 'c=host-gateway']",
         {"extra_hosts": {"a": ["10.0.0.1"], "b": ["::1"], "c": ["host-gateway"]}}),
        ("extra_hosts: {a: 10.0.0.1}", {"extra_hosts": {"a": ["10.0.0.1"]}}),
        ("ulimits: {nofile: 10, nproc: {soft: 1, hard: 2}}",
         {"ulimits": {"nofile": {"soft": 10, "hard": 10}, "nproc": {"soft": 1, "hard": 2}}}),
        ("devices: ['/dev/a:/dev/b:r', /dev/c]",
         {"devices": [{"source": "/dev/a", "target": "/dev/b", "permissions": "r"},
                      {"source": "/dev/c", "target": "/dev/c", "permissions": "rwm"}]}),
        ("healthcheck: {test: curl x}", {"healthcheck": {"test": ["CMD-SHELL", "curl x"]}}),
        ("mem_limit: 64m", {"mem_limit": "67108864"}),
        ("dns: 1.1.1.1", {"dns": ["1.1.1.1"]}),
        ("tmpfs: /run:size=1m", {"tmpfs": ["/run:size=1m"]}),
        ("scale: ${N:-3}", {"scale": 3}),
        ("read_only: ${RO:-true}", {"read_only": True}),
        ("restart: no", {"restart": "no"}),
        ("cap_add: [cap_net_admin]", {"cap_add": ["NET_ADMIN"]}),
        ("labels: [a=b, c]", {"labels": {"a": "b", "c": ""}}),
        ("networks: {default: {aliases: [x]}}", {"networks": {"default": {"aliases": ["x"]}}}),
        ("x-any: {thing: 1}", {}),
        ("cpus: 0.5", {"cpus": "0.5"}),
        ("cpu_rt_runtime: 400ms", {"cpu_rt_runtime": 400_000}),
        ("stop_grace_period: 1m30s", {"stop_grace_period": "1m30s"}),
    ],
)  # fmt: skip
def test_long_forms(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    assert service(tmp_path, text, environment={"D": "d"}) == {"image": "i", **expected}


@pytest.mark.parametrize(
    "text", ["../lib:/x:ro", "./lib:/x:ro", "{type: bind, source: ./lib, target: /x, read_only: true}"]
)
def test_paths_begin_at_the_project(tmp_path: Path, text: str) -> None:
    found = service(tmp_path, f"volumes: [{text if text[0] == '{' else repr(text)}]")["volumes"][0]
    folder = tmp_path.parent if text.startswith("..") else tmp_path
    assert (found["source"], found["target"], found["read_only"]) == (str(folder / "lib"), "/x", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("imge: x", "services.s.imge: unknown key: compose.yaml:4:5; did you mean 'image'"),
        ("gpus: all", "gpus: Wherry does not support this key: compose.yaml:4:5; there is no hook of a vendor"),
        ("ports: [abc]", "ports.0.: not a port: 'abc': compose.yaml:4:13"),
        ("ports: ['80:70000']", "not a port"),
        ("ports: ['1-3:1-2']", "differ in length"),
        ("ports: ['80/sctp']", "cannot be published"),
        ("volumes: ['a:b:c:d']", "not a mount"),
        ("volumes: ['data:/x']", "volume 'data' is not declared"),
        ("volumes: ['/a:/x:wrong']", "no option 'wrong'"),
        ("networks: [nowhere]", "network 'nowhere' is not declared"),
        ("secrets: [x]", "secrets: 'x' is not declared"),
        ("depends_on: [dbb]", "no service 'dbb'"),
        ("depends_on: {s: {condition: service_well}}", "is not one of service_started"),
        ("depends_on: [s]", "services wait for each other: s -> s"),
        ("network_mode: host\nports: [80]", "ports cannot be published with network_mode: host"),
        ("network_mode: service:x", "no service 'x'"),
        ("network_mode: sevice:x", "no mode 'sevice:x'"),
        ("restart: sometimes", "no restart policy"),
        ("cap_add: [NET_ADMN]", "no capability 'NET_ADMN': compose.yaml:4:15; did you mean 'NET_ADMIN'"),
        ("mem_limit: lots", "not a size"),
        ("stop_grace_period: soon", "not a duration"),
        ("init: maybe", "must be true or false"),
        ("image: ${A:?name it}", "the variable A must be set: name it: compose.yaml:4:12"),
        ("healthcheck: {test: [RUN, x]}", "not a test"),
        ("container_name: x\nscale: 2", "several containers cannot have one container_name"),
        ("deploy: {placement: {}}", "placement: Wherry does not support this key"),
        ("deploy: {mode: global}", "is not one of replicated"),
        ("environment: {A: [1]}", "must be text, not a list"),
        ("ulimits: {nofile: {soft: 1}}", "hard is missing"),
        ("env_file: nowhere.env", "no such env_file"),
        ("image: a\nimage: b", "key stands twice"),
    ],
)  # fmt: skip
def test_refused_with_place(tmp_path: Path, text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = "services:\n  s:\n    image: i\n" if "image" not in text else "services:\n  s:\n    init: true\n"
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    with pytest.raises((InvalidInput, NotFound), match=words):
        project(tmp_path, base + lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("service: {}", "unknown key: .*compose.yaml:1:1; did you mean 'services'"),
        ("models: {}", "models: Wherry does not support"),
        ("services: {a b: {image: x}}", "not a service's name"),
        ("services: {a: {}}", "services.a: image is missing"),
        ("services: {}\nsecrets: {x: {}}", "secrets.x: must have one of file, environment"),
        ("services: {}\nconfigs: {x: {external: true}}", "there are no configs outside"),
        ("services: {}\nnetworks: {x: {driver: overlay}}", "is not one of bridge, macvlan"),
        ("services: !wrong {}", "a YAML tag is not supported"),
        ("name: Not Good\nservices: {}", "not a project's name"),
    ],
)
def test_the_top_of_a_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        project(tmp_path, text + "\n", name="")
