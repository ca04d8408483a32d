"""The endpoint over the store: what skopeo, podman, curl and a proxying docker-registry get from it, and give to it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.compat.registry.conftest import Machine, Registry
from tests.unit.image.makers import Layout

from wherry.core.proc import run

_START_S = 30
PASSWORD = "secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def domain(self) -> str:
        return self.url.partition("//")[2]

    def get(self, path: str, *options: str) -> bytes:
        return run(["curl", "-sSf", *options, f"{self.url}{path}"]).stdout

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def skopeo(self, *args: str) -> bytes:
        """Runs skopeo; ``HERE`` in an argument is this endpoint."""
        return run(["skopeo", *(arg.replace("HERE", f"docker://{self.domain}") for arg in args)]).stdout

    def digest(self, name: str) -> str:
        found: str = json.loads(self.skopeo("inspect", "--tls-verify=false", f"HERE/{name}"))["Digest"]
        return found


Serve = Callable[..., Endpoint]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    running: list[subprocess.Popen[bytes]] = []

    def start(machine: Machine, *options: str) -> Endpoint:
        ready, log = tmp_path / f"ready-{len(running)}", tmp_path / f"log-{len(running)}"
        command = [sys.executable, "-m", "wherry", "--root", str(machine.root), "--run-root", f"{machine.root}-run"]
        command += ["image", "serve", "--listen=127.0.0.1:0", f"--ready-file={ready}", "--access-log", *options]
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=machine.environment)
        running.append(process)
        deadline = time.monotonic() + _START_S
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        return Endpoint(url=ready.read_text().strip(), process=process, log=log)

    yield start
    for process in running:
        process.terminate()
        assert process.wait(20) in (0, -9)


@pytest.fixture
def users(tmp_path: Path) -> str:
    hashed = run(["openssl", "passwd", "-6", PASSWORD]).stdout.decode().strip()
    (tmp_path / "users").write_text(f"ann:{hashed}\n")
    return f"--htpasswd={tmp_path}/users"


@pytest.fixture
def device(machine: Callable[[str], Machine], layout: Layout) -> Machine:
    """A machine with ``kept:1``, as it came, and ``made:1``, of which only the tree is there."""
    found = machine("device")
    found("image", "import", f"oci:{layout.path}:one", "--name=kept:1", "--platform=linux/amd64", "--keep-layers")
    change = "LABEL changed=here"  # so that it is not what came any more
    found("image", "import", f"oci:{layout.path}:one", "--name=made:1", "--platform=linux/amd64", "-c", change)
    return found


def test_skopeo_copies(device: Machine, serve: Serve, layout: Layout, tmp_path: Path) -> None:
    endpoint = serve(device)
    original = json.loads(run(["skopeo", "inspect", f"oci:{layout.path}:one"]).stdout)["Digest"]
    assert endpoint.digest("kept:1") == original
    first = endpoint.digest("made:1")
    for name in ("kept", "made"):
        endpoint.skopeo("copy", "-q", "--src-tls-verify=false", f"HERE/{name}:1", f"dir:{tmp_path}/{name}")
        raw = (tmp_path / name / "manifest.json").read_bytes()
        assert "sha256:" + hashlib.sha256(raw).hexdigest() == endpoint.digest(f"{name}:1")
    endpoint.process.terminate()
    endpoint.process.wait()
    assert serve(device).digest("made:1") == first, "stable across a restart"


def test_ranges_of_curl(device: Machine, serve: Serve) -> None:
    endpoint = serve(device)
    for name in ("kept", "made"):
        for layer in endpoint.json(f"/v2/{name}/manifests/1")["layers"]:
            path = f"/v2/{name}/blobs/{layer['digest']}"
            whole = endpoint.get(path)
            assert "sha256:" + hashlib.sha256(whole).hexdigest() == layer["digest"]
            for span in ("0-9", "20-59", "30-", "-7"):
                first, _, last = span.partition("-")
                part = whole[int(first) : int(last or len(whole)) + 1] if first else whole[-int(last) :]
                assert endpoint.get(path, "-r", span) == part
    assert endpoint.json("/v2/_catalog") == {"repositories": ["kept", "made"]}


def test_podman_pulls_and_runs_as_many_at_once(device: Machine, serve: Serve, podman: list[str]) -> None:
    endpoint = serve(device)
    run([*podman, "pull", "-q", "--tls-verify=false", f"{endpoint.domain}/made:1", f"{endpoint.domain}/kept:1"])
    shown = json.loads(run([*podman, "image", "inspect", f"{endpoint.domain}/made:1"]).stdout)[0]
    assert shown["Digest"] == endpoint.digest("made:1")
    assert (shown["Architecture"], len(shown["RootFS"]["Layers"])) == ("amd64", 2)
    clients = [
        subprocess.Popen(
            ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{endpoint.domain}/made:1", f"dir:{folder}"]
        )
        for folder in (device.root.parent / f"client-{number}" for number in range(6))
    ]
    assert [client.wait(60) for client in clients] == [0] * 6


def test_docker_registry_proxies(
    device: Machine, serve: Serve, start_registry: Callable[[str, str], Registry], tmp_path: Path
) -> None:
    endpoint = serve(device)
    proxy = start_registry("", f"proxy: {{remoteurl: '{endpoint.url}'}}\n")
    for name in ("kept", "made", "library/made"):
        shown = json.loads(proxy.skopeo("inspect", "--tls-verify=false", f"REGISTRY/{name}:1"))
        assert shown["Digest"] == endpoint.digest(f"{name}:1")
        proxy.skopeo(
            "copy", "-q", "--src-tls-verify=false", f"REGISTRY/{name}:1", f"dir:{tmp_path}/{name.replace('/', '-')}"
        )


def test_wherry_pulls(device: Machine, serve: Serve, machine: Callable[[str], Machine]) -> None:
    endpoint = serve(device)
    other = machine("other")
    for name in ("kept", "made"):
        other("image", "pull", "--keep-layers", f"{endpoint.domain}/{name}:1")
        shown = json.loads(other("image", "inspect", f"{endpoint.domain}/{name}:1"))[0]
        assert endpoint.digest(f"{name}:1") in shown["RepoDigests"][0]
    again = serve(other)
    port_as_name = endpoint.domain.replace(":", "_")
    assert again.digest(f"{port_as_name}/made:1") == endpoint.digest("made:1"), "through a second store"


@pytest.mark.parametrize("read", ["anybody", "login"])
def test_skopeo_and_podman_push(
    device: Machine, serve: Serve, users: str, layout: Layout, podman: list[str], tmp_path: Path, read: str
) -> None:
    endpoint = serve(device, "--push", "--delete", users, *(["--login-to-read"] if read == "login" else []))
    me = f"ann:{PASSWORD}"
    insecure = "--dest-tls-verify=false"
    endpoint.skopeo("copy", "-q", "--all", insecure, f"--dest-creds={me}", f"oci:{layout.path}:both", "HERE/both:1")
    raw = endpoint.skopeo("inspect", "--raw", "--tls-verify=false", f"--creds={me}", "HERE/both:1")
    index = json.loads((layout.path / "index.json").read_bytes())["manifests"][0]["digest"]
    assert "sha256:" + hashlib.sha256(raw).hexdigest() == index
    local = ["--tls-verify=false", f"--creds={me}"]
    run([*podman, "pull", "-q", *local, f"{endpoint.domain}/both:1"])
    run([*podman, "push", "-q", *local, f"{endpoint.domain}/both:1", f"docker://{endpoint.domain}/team/from-podman:2"])
    listed = [item["reference"] for item in json.loads(device("image", "ls", "--json"))]
    assert "localhost/both:1" in listed
    assert "localhost/team/from-podman:2" in listed
    for wrong in ("--dest-creds=ann:wrong", "--dest-no-creds"):
        done = subprocess.run(
            ["skopeo", "copy", "-q", insecure, wrong, f"oci:{layout.path}:one", f"docker://{endpoint.domain}/no:1"],
            check=False,
            capture_output=True,
        )
        assert done.returncode != 0
        assert b"unauthorized" in done.stderr or b"invalid username/password" in done.stderr
    endpoint.skopeo("delete", "--tls-verify=false", f"--creds={me}", "HERE/team/from-podman:2")
    assert "localhost/team/from-podman:2" not in device("image", "ls", "--json")


def test_wherry_pushes(device: Machine, serve: Serve, users: str, machine: Callable[[str], Machine]) -> None:
    endpoint = serve(machine("hub"), "--push", users)
    device("login", "--username=ann", "--password-stdin", endpoint.domain, stdin=PASSWORD.encode())
    for name in ("kept", "made"):
        device("image", "tag", f"{name}:1", f"{endpoint.domain}/{name}:1")
        device("image", "push", f"{endpoint.domain}/{name}:1")
        assert endpoint.digest(f"{name}:1").startswith("sha256:")


def test_many_push_at_once(device: Machine, serve: Serve, users: str, layout: Layout) -> None:
    endpoint = serve(device, "--push", users)
    names = ["same:1"] * 3 + [f"other-{number}:1" for number in range(3)]
    clients = [
        subprocess.Popen(
            ["skopeo", "copy", "-q", "--all", "--dest-tls-verify=false", f"--dest-creds=ann:{PASSWORD}",
             f"oci:{layout.path}:both", f"docker://{endpoint.domain}/{name}"]
        )
        for name in names
    ]  # fmt: skip
    assert [client.wait(120) for client in clients] == [0] * len(names)
    assert len({endpoint.digest(name) for name in names}) == 1
    for line in endpoint.log.read_text().splitlines():
        assert " 500 " not in line, line


def test_a_push_that_was_cut(device: Machine, serve: Serve, users: str, layout: Layout) -> None:
    endpoint = serve(device, "--push", users)
    me = ("-u", f"ann:{PASSWORD}")
    begun = endpoint.get("/v2/cut/blobs/uploads/", *me, "-X", "POST", "-D", "-", "-o", "/dev/null").decode()
    where = next(line.split(" ", 1)[1].strip() for line in begun.splitlines() if line.lower().startswith("location:"))
    endpoint.get(where, *me, "-X", "PATCH", "--data-binary", "half")
    endpoint.process.kill()
    endpoint.process.wait()
    again = serve(device, "--push", users)
    gone = run(["curl", "-s", *me, f"{again.url}{where}", "-X", "PATCH", "--data-binary", "x"], check=False).stdout
    assert b"BLOB_UPLOAD_UNKNOWN" in gone
    again.skopeo(
        "copy", "-q", "--dest-tls-verify=false", f"--dest-creds=ann:{PASSWORD}", f"oci:{layout.path}:one", "HERE/cut:1"
    )
    assert "localhost/cut:1" in device("image", "ls", "--json")


def test_what_is_attached(device: Machine, serve: Serve, users: str, tmp_path: Path) -> None:
    endpoint = serve(device, "--push", users)
    device("login", "--username=ann", "--password-stdin", endpoint.domain, stdin=PASSWORD.encode())
    target = f"{endpoint.domain}/app:1"
    device("image", "push", "kept:1", target)
    device("image", "sbom", "kept:1", "--format=spdx", f"--attach={target}")
    (tmp_path / "note.txt").write_text("a note")
    device("image", "attach", target, str(tmp_path / "note.txt"), "--type=text/plain")
    device("image", "prune", "-f")
    listed = device("image", "referrers", target)
    assert "spdx" in listed
    assert "text/plain" in listed
    digest = endpoint.digest("app:1")
    shown = endpoint.json(f"/v2/app/referrers/{digest}")["manifests"]
    assert len(shown) == 2
    for item in shown:
        manifest = endpoint.json(f"/v2/app/manifests/{item['digest']}")
        for layer in manifest["layers"]:
            assert len(endpoint.get(f"/v2/app/blobs/{layer['digest']}")) == layer["size"]


def test_tls(device: Machine, serve: Serve, tmp_path: Path) -> None:
    run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", f"{tmp_path}/key", "-out", f"{tmp_path}/cert", "-subj", "/CN=x",
         "-addext", "subjectAltName=IP:127.0.0.1"]
    )  # fmt: skip
    endpoint = serve(device, f"--tls-cert={tmp_path}/cert", f"--tls-key={tmp_path}/key")
    assert endpoint.url.startswith("https://")
    assert endpoint.get("/v2/", "--cacert", f"{tmp_path}/cert") == b"{}"
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs/ca.crt").write_bytes((tmp_path / "cert").read_bytes())
    endpoint.skopeo("copy", "-q", f"--src-cert-dir={tmp_path}/certs", "HERE/made:1", f"dir:{tmp_path}/out")
    assert run(["curl", "-s", endpoint.url], check=False).returncode != 0


def test_it_has_no_rights_left(device: Machine, serve: Serve) -> None:
    status = Path(f"/proc/{serve(device).process.pid}/status").read_text()
    rights = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {rights[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert rights["NoNewPrivs"] == "1"


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_saved_images_are_read_by_all(device: Machine, podman: list[str], tmp_path: Path, form: str) -> None:
    device("image", "save", "kept:1", "made:1", f"--format={form}", "-o", f"{tmp_path}/out.tar")
    device("image", "save", "kept:1", "made:1", f"--format={form}", "-o", f"{tmp_path}/again.tar")
    assert (tmp_path / "out.tar").read_bytes() == (tmp_path / "again.tar").read_bytes()
    device("image", "save", "made:1", f"--format={form}", "-o", f"{tmp_path}/one.tar")
    run([*podman, "load", "-q", "-i", f"{tmp_path}/one.tar"])
    assert b"docker.io/library/made" in run([*podman, "images", "--format={{.Repository}}"]).stdout
    if form == "docker-archive":
        run([*podman, "load", "-q", "-i", f"{tmp_path}/out.tar"])
        assert b"docker.io/library/kept" in run([*podman, "images", "--format={{.Repository}}"]).stdout
        run(["skopeo", "copy", "-q", f"docker-archive:{tmp_path}/out.tar:kept:1", f"dir:{tmp_path}/docker"])
    name = "docker.io/library/made:1"
    run(["skopeo", "copy", "-q", f"oci-archive:{tmp_path}/out.tar:{name}", f"dir:{tmp_path}/oci"])


def test_saved_layouts_are_read_by_umoci(device: Machine, tmp_path: Path) -> None:
    device("image", "save", "made:1", "--format=oci-dir", "-o", f"{tmp_path}/out")
    run(["umoci", "unpack", f"--image={tmp_path}/out:1", f"{tmp_path}/bundle"])
    assert (tmp_path / "bundle/rootfs/top").read_text() == "top"
    assert (tmp_path / "bundle/rootfs/app").readlink() == Path("bin/app")
    assert (tmp_path / "bundle/rootfs/bin/app").stat().st_mode & 0o777 == 0o755
