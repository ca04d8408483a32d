"""Projects of real containers: order, conditions, names, changes, orphans, and nothing left."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest
from tests.integration.compose.support import Compose
from tests.integration.engine.support import until

ORDER = """
services:
  db:
    {IMAGE, command: [sh, -c, "sleep 1; touch /tmp/ok; exec sleep 1000"],
     healthcheck: {test: "test -f /tmp/ok", interval: 200ms, retries: 100}}
  init: {IMAGE, command: [sh, -c, "sleep 0.3; echo made > /shared/file"], volumes: [shared:/shared]}
  web:
    {IMAGE, command: [sh, -c, "cat /shared/file; exec sleep 1000"], volumes: [shared:/shared],
     depends_on: {db: {condition: service_healthy}, init: {condition: service_completed_successfully}}}
volumes: {shared: }
"""


def test_order_conditions_and_down(compose: Compose) -> None:
    compose.write(ORDER)
    told = compose.run("up", "-d").stderr
    steps = [line.split() for line in told.splitlines()]
    place = {(words[1], words[2]): index for index, words in enumerate(steps) if words[0] == "Container"}
    assert place["shop-db-1", "Healthy"] < place["shop-web-1", "Creating"]
    assert place["shop-init-1", "Exited"] < place["shop-web-1", "Creating"]
    assert compose.run("logs", "--no-log-prefix", "web").stdout == "made\n", "init had ended when web began"
    found = compose.ps()
    assert {name: item["State"] for name, item in found.items()} == {
        "shop-db-1": "running",
        "shop-init-1": "exited",
        "shop-web-1": "running",
    }
    assert found["shop-db-1"]["Health"] == "healthy"
    assert compose.run("ps", "--services").stdout.split() == ["db", "web"]
    assert compose.run("ls", "-q").stdout.split() == ["shop"]
    compose.run("down")
    assert [Path(path).name for path in compose.left()] == ["shop_shared"], "data stays without -v"
    compose.run("up", "-d")
    compose.run("down", "-v")
    assert compose.left() == []


def test_a_dependency_that_fails_keeps_the_rest_from_starting(compose: Compose) -> None:
    compose.write(
        """
services:
  bad: {IMAGE, command: [sh, -c, "echo why >&2; exit 3"]}
  sick: {IMAGE, command: [sleep, "1000"], healthcheck: {test: "false", interval: 100ms, retries: 2}}
  one: {IMAGE, command: [sleep, "1000"], depends_on: {bad: {condition: service_completed_successfully}}}
  two: {IMAGE, command: [sleep, "1000"], depends_on: {sick: {condition: service_healthy}}}
  three:
    {IMAGE, command: [sleep, "1000"], depends_on: {bad: {condition: service_completed_successfully, required: false}}}
"""
    )
    told = compose.run("up", "-d", "one", status=1).stderr
    assert "service one was not started: container shop-bad-1 did not complete successfully: status 3" in told
    assert "shop-sick-1 is unhealthy" in compose.run("up", "-d", "two", status=1).stderr
    compose.run("up", "-d", "three")
    assert set(compose.ps()) == {"shop-bad-1", "shop-sick-1", "shop-three-1"}


def test_services_find_each_other_by_name(compose: Compose) -> None:
    compose.write(
        """
services:
  db: {IMAGE, command: [sleep, "1000"], networks: {back: {aliases: [database]}}}
  web: {IMAGE, command: [sleep, "1000"], networks: [back, front]}
  out: {IMAGE, command: [sleep, "1000"], networks: [front]}
networks: {back: {internal: true}, front: }
"""
    )
    compose.run("up", "-d")
    for name in ("db", "database", "shop-db-1"):
        assert compose.run("exec", "-T", "web", "ping", "-c1", "-W5", name).stdout
    assert compose.run("exec", "-T", "out", "ping", "-c1", "-W1", "db", status=None).status != 0
    assert compose.run("exec", "-T", "out", "ping", "-c1", "-W5", "web").stdout
    assert compose.run("config", "--networks").stdout.split() == ["back", "front"]


def test_only_what_changed_is_made_anew_and_keeps_its_anonymous_volumes(compose: Compose) -> None:
    text = """
services:
  db: {IMAGE, command: [sleep, "1000"], environment: {A: VALUE}, volumes: [/anon]}
  web: {IMAGE, command: [sleep, "1000"], depends_on: [db]}
  side: {IMAGE, command: [sleep, "1000"], network_mode: "service:db"}
"""
    compose.write(text.replace("VALUE", "one"))
    compose.run("up", "-d")
    compose.run("exec", "-T", "db", "touch", "/anon/kept")
    first = compose.ids()
    compose.run("up", "-d")
    assert compose.ids() == first
    compose.write(text.replace("VALUE", "two"))
    compose.run("up", "-d")
    second = compose.ids()
    assert second["shop-web-1"] == first["shop-web-1"]
    assert second["shop-db-1"] != first["shop-db-1"]
    assert second["shop-side-1"] != first["shop-side-1"], "it shares the network of what was made anew"
    assert compose.run("exec", "-T", "db", "sh", "-c", "echo $A; ls /anon").stdout.split() == ["two", "kept"]
    compose.write(text.replace("VALUE", "three"))
    compose.run("up", "-d", "--no-recreate")
    assert compose.ids() == second
    compose.run("up", "-d", "-V", "db")
    assert compose.run("exec", "-T", "db", "ls", "/anon").stdout == ""
    third = compose.ids()
    compose.run("up", "-d", "--force-recreate", "web")
    fourth = compose.ids()
    assert [name for name in fourth if fourth[name] != third[name]] == ["shop-web-1"]
    compose.run("down")
    assert compose.left() == []


def test_scale_and_orphans(compose: Compose) -> None:
    compose.write(
        "services:\n  a: {IMAGE, command: [sleep, '1000'], scale: 2}\n  b: {IMAGE, command: [sleep, '1000']}\n"
    )
    compose.run("up", "-d")
    first = compose.ids()
    assert set(first) == {"shop-a-1", "shop-a-2", "shop-b-1"}
    compose.run("up", "-d", "--scale", "a=3")
    assert {name: compose.ids()[name] for name in first} == first
    compose.run("scale", "a=1")
    assert set(compose.ps()) == {"shop-a-1", "shop-b-1"}
    compose.write("services:\n  a: {IMAGE, command: [sleep, '1000']}\n")
    assert "shop-b-1" in compose.run("up", "-d").stderr
    assert set(compose.ps()) == {"shop-a-1", "shop-b-1"}
    compose.run("down")
    assert set(compose.run("-p", "shop", "ps", "--services").stdout.split()) == {"b"}
    compose.run("up", "-d", "--remove-orphans")
    assert set(compose.ps()) == {"shop-a-1"}
    os.unlink(compose.folder / "compose.yaml")
    compose.run("-p", "shop", "down")
    assert compose.left() == []


def test_output_and_ctrl_c(compose: Compose) -> None:
    compose.write(
        """
services:
  db: {IMAGE, command: [sh, -c, "trap 'echo db ends; exit 0' TERM; echo db begins; while :; do sleep 0.1; done"]}
  web:
    {IMAGE, command: [sh, -c, "trap 'echo web ends; exit 0' TERM; echo web begins; while :; do sleep 0.1; done"],
     depends_on: [db]}
"""
    )
    process = compose.start("up")
    assert process.stdout is not None
    seen: list[str] = []
    while sum("begins" in line for line in seen) < 2:
        seen.append(process.stdout.readline().decode())
        assert seen[-1], seen
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    lines = [line.rstrip() for line in [*seen, *out.decode().splitlines()]]
    assert process.returncode == 130, err.decode()
    assert "db-1   | db begins" in lines
    assert "web-1  | web begins" in lines
    assert lines.index("web-1  | web ends") < lines.index("db-1   | db ends"), "what depends on others stops first"
    assert "web-1 exited with code 0" in lines
    assert {item["State"] for item in compose.ps().values()} == {"exited"}


def test_a_second_ctrl_c_kills(compose: Compose) -> None:
    compose.write(
        """
services:
  a:
    image: test/busybox:1
    stop_grace_period: 10m
    command: [sh, -c, "trap '' TERM; echo up; while :; do sleep 0.1; done"]
"""
    )
    process = compose.start("up")
    assert process.stdout is not None
    assert b"up" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    line = b""
    while b"Stopping" not in line:
        line = process.stderr.readline()
        assert line
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 130, rest.decode()
    assert compose.ps()["shop-a-1"]["ExitCode"] == 137


@pytest.mark.parametrize(("args", "status"), [(("--abort-on-container-exit",), 5), (("--exit-code-from", "b"), 7)])
def test_aborting(compose: Compose, args: tuple[str, ...], status: int) -> None:
    compose.write(
        """
services:
  a: {IMAGE, command: [sh, -c, "exit 5"], depends_on: [b]}
  b: {IMAGE, command: [sh, -c, "trap 'exit 7' TERM; while :; do sleep 0.1; done"]}
"""
    )
    if "--exit-code-from" in args:
        compose.write("services:\n  b: {IMAGE, command: [sh, -c, 'exit 7']}\n  a: {IMAGE, command: [sleep, '1000']}\n")
    compose.run("up", *args, status=status)
    assert {item["State"] for item in compose.ps().values()} == {"exited"}


def test_wait_and_its_time_limit(compose: Compose) -> None:
    compose.write(
        """
services:
  a: {IMAGE, command: [sh, -c, "sleep 0.5; touch /tmp/ok; exec sleep 1000"],
      healthcheck: {test: "test -f /tmp/ok", interval: 200ms, retries: 100}}
  never: {IMAGE, profiles: [slow], command: [sleep, "1000"],
      healthcheck: {test: "false", interval: 1s, retries: 10000}}
"""
    )
    compose.run("up", "--wait")
    assert compose.ps()["shop-a-1"]["Health"] == "healthy"
    assert "in time" in compose.run("--profile", "slow", "up", "--wait", "--wait-timeout", "1", status=12).stderr


def test_configs_and_secrets_are_files(compose: Compose) -> None:
    compose.write(
        """
services:
  s: {IMAGE, command: [sleep, "1000"], user: "1000", secrets: [pw, {source: env, uid: "1000", mode: 0400}],
      configs: [{source: c, target: /etc/c.conf}]}
secrets: {pw: {file: pw.txt}, env: {environment: PW}}
configs: {c: {content: "c of ${COMPOSE_PROJECT_NAME}"}}
"""
    )
    (compose.folder / "pw.txt").write_text("from the file\n")
    environment = {**compose.cli.env, "PW": "from the environment"}
    compose.run("up", "-d", env=environment)
    script = "cat /run/secrets/pw /run/secrets/env /etc/c.conf; stat -c %a:%u /run/secrets/env"
    out = compose.run("exec", "-T", "s", "sh", "-c", script).stdout
    assert out == "from the file\nfrom the environmentc of shop400:1000\n"
    first = compose.ids()
    compose.run("up", "-d", env={**environment, "PW": "other"})
    assert compose.ids() != first, "another secret is another container"
    assert len(list((compose.cli.root / "compose/shop").iterdir())) == 2, "the old secret is gone"
    compose.run("down")
    assert compose.left() == []


def test_one_off_containers(compose: Compose) -> None:
    compose.write(
        """
services:
  db: {IMAGE, command: [sleep, "1000"]}
  web: {IMAGE, command: [sleep, "1000"], environment: {A: "1"}, depends_on: [db], ports: ["18123:80"]}
"""
    )
    done = compose.run(
        "run", "--rm", "-T", "-e", "B=2", "web", "sh", "-c", "echo $A $B; ping -c1 -W5 db >/dev/null; exit 9", status=9
    )
    assert done.stdout == "1 2\n"
    assert set(compose.ps()) == {"shop-db-1"}
    name = compose.run("run", "-d", "web").stdout.strip()
    assert name.startswith("shop-web-run-")
    assert compose.run("ps", "-q", "web").stdout == "", "ps shows it with -a alone"
    compose.run("down")
    assert compose.left() == []


def is_in_state(compose: Compose, state: str) -> bool:
    return bool(compose.ps()["shop-a-1"]["State"] == state)


def test_other_words(compose: Compose) -> None:
    compose.write("services:\n  a: {IMAGE, command: [sleep, '1000'], ports: ['127.0.0.1:18124:80']}\n")
    compose.run("create")
    assert compose.ps()["shop-a-1"]["State"] == "created"
    for word, state in (("start", "running"), ("pause", "paused"), ("unpause", "running"), ("restart", "running"),
                        ("stop", "exited"), ("start", "running"), ("kill", "exited")):  # fmt: skip
        compose.run(word)
        until(partial(is_in_state, compose, state))
    assert compose.run("wait", "a", status=137).stdout == "137\n"
    compose.run("up", "-d")
    assert compose.run("port", "a", "80").stdout == "127.0.0.1:18124\n"
    assert "sleep 1000" in compose.run("top").stdout
    assert "test/busybox:1" in compose.run("images").stdout
    assert "start" in compose.run("events", "--since", "1h", "--until", "0s").stdout
    compose.run("rm", "-fs")
    assert compose.ps() == {}
    assert "sources are not watched" in compose.run("watch", status=2).stderr


def test_a_dependency_that_is_restarted_is_waited_for(compose: Compose) -> None:
    compose.write(
        """
services:
  db:
    {IMAGE, restart: on-failure, volumes: [state:/state],
     command: [sh, -c, "ls /state/again || { touch /state/again; exit 1; }; exec sleep 1000"],
     healthcheck: {test: "test -f /state/again", interval: 1s, retries: 100}}
  web: {IMAGE, command: [sleep, "1000"], depends_on: {db: {condition: service_healthy, restart: true}}}
volumes: {state: }
"""
    )
    compose.run("up", "-d")
    found = compose.ps()
    assert (found["shop-db-1"]["State"], found["shop-web-1"]["State"]) == ("running", "running")
    started = compose.cli.inspect("shop-web-1")["started_s"]
    compose.run("up", "-d", "--force-recreate", "db")
    assert compose.cli.inspect("shop-web-1")["started_s"] == started, "it was not asked for"
    compose.write((compose.folder / "compose.yaml").read_text().replace("retries: 100", "retries: 101"))
    first = compose.ids()
    compose.run("up", "-d")
    assert compose.ids()["shop-web-1"] == first["shop-web-1"]
    assert compose.cli.inspect("shop-web-1")["started_s"] > started, "restarted after what it depends on"


def test_several_containers_share_a_name_and_get_ports_in_turn(compose: Compose) -> None:
    compose.write(
        """
services:
  worker: {IMAGE, command: [sleep, "1000"], scale: 2, ports: ["127.0.0.1:18130-18131:80"]}
  web: {IMAGE, command: [sleep, "1000"], depends_on: [worker]}
"""
    )
    compose.run("up", "-d")
    hosts = compose.run("exec", "-T", "web", "cat", "/etc/hosts").stdout
    assert sum(" worker" in line for line in hosts.splitlines()) == 2
    ports = [compose.run("port", "--index", str(number), "worker", "80").stdout.strip() for number in (1, 2)]
    assert ports == ["127.0.0.1:18130", "127.0.0.1:18131"]
    compose.run("down", "worker")
    assert set(compose.ps()) == {"shop-web-1"}


def test_following_logs_until_all_have_ended(compose: Compose) -> None:
    compose.write(
        """
services:
  a: {IMAGE, command: [sh, -c, "for n in 1 2 3; do echo a$$n; done; sleep 1; echo last"]}
  b: {IMAGE, command: [sh, -c, "echo b1 >&2"]}
"""
    )
    compose.run("up", "-d")
    lines = compose.run("logs", "-f").stdout.splitlines()
    assert sorted(lines) == ["a-1  | a1", "a-1  | a2", "a-1  | a3", "a-1  | last", "b-1  | b1"]
    assert compose.run("logs", "--tail", "1", "--no-log-prefix", "a").stdout == "last\n"
    assert compose.run("logs", "--since", "1h", "--until", "1h").stdout == ""
    assert "T" in compose.run("logs", "-t", "b").stdout.split("| ")[1].split()[0]


def test_a_project_name_is_no_path(compose: Compose) -> None:
    compose.cli.run("compose", "-p", "x", "down", cwd="/")
    victim = compose.cli.root / "victim"
    victim.mkdir()
    (victim / "file").write_text("")
    for name in ("../victim", "/etc", "a/b", "."):
        compose.run("-p", name, "down", status=5)
        compose.cli.run("compose", "-p", name, "down", status=5, cwd="/")
    assert (victim / "file").exists()


def test_external_things_are_needed_and_never_removed(compose: Compose) -> None:
    compose.write(
        """
services: {a: {IMAGE, command: [sleep, "1000"], networks: [out], volumes: [keep:/keep], secrets: [pw]}}
networks: {out: {external: true, name: plant}}
volumes: {keep: {external: true}}
secrets: {pw: {external: true}}
"""
    )
    assert "no secret 'pw'" in compose.run("up", "-d", status=3).stderr
    compose.cli.run("secret", "create", "pw", "-", stdin=b"word")
    assert "the external network 'plant' is not there" in compose.run("up", "-d", status=3).stderr
    compose.cli.run("network", "create", "plant")
    assert "the external volume 'keep' is not there" in compose.run("up", "-d", status=3).stderr
    compose.cli.run("volume", "create", "keep")
    compose.run("up", "-d")
    assert compose.run("exec", "-T", "a", "cat", "/run/secrets/pw").stdout == "word"
    compose.run("down", "-v")
    assert sorted(Path(path).name for path in compose.left()) == ["keep", "plant.json"]


def test_a_network_that_changed(compose: Compose) -> None:
    text = """
services: {a: {IMAGE, command: [sleep, "1000"], networks: {net: {ipv4_address: 10.213.7.9}}}}
networks: {net: {ipam: {config: [{subnet: 10.213.7.0/24}]}, internal: INTERNAL}}
"""
    compose.write(text.replace("INTERNAL", "false"))
    compose.run("up", "-d")
    assert "10.213.7.9" in compose.run("exec", "-T", "a", "ip", "addr").stdout
    compose.write(text.replace("INTERNAL", "true"))
    assert "has other settings than the file" in compose.run("up", "-d", status=4).stderr
    compose.run("stop")
    compose.run("up", "-d")
    assert "default" not in compose.run("exec", "-T", "a", "ip", "route").stdout
    compose.run("down")
    assert compose.left() == []
