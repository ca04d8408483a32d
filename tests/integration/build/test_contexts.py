"""Where files and Dockerfiles come from: standard input, archives, addresses, Git, images; and what comes out."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.build.conftest import Place

HEAD = "FROM busybox:1\n"


def archive(files: dict[str, str], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as made:  # type: ignore[call-overload]
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid = len(text), 1000, 1000
            made.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Gives a folder, and the address under which it is served."""
    top = tmp_path / "served"
    top.mkdir()
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(top)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdout is not None
        port = process.stdout.readline().split()[5].decode()
        yield top, f"http://127.0.0.1:{port}"
        process.terminate()


def make_git(top: Path, files: dict[str, str]) -> str:
    """Makes a repository that a plain web server can serve; returns its commit."""
    environment = {**os.environ, "HOME": str(top.parent)}
    for key in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{key}_NAME": "a", f"GIT_{key}_EMAIL": "a@b"}
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    for line in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "x"], ["update-server-info"]):
        subprocess.run(["git", "-C", str(top), *line], check=True, env=environment)
    done = subprocess.run(["git", "-C", str(top), "rev-parse", "HEAD"], check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_an_archive_on_standard_input(place: Place, mode: str) -> None:
    data = archive({"Dockerfile": HEAD + "COPY . /c/\n", ".dockerignore": "no\n", "no": "", "yes": "y"}, mode)
    place("build", "-t", "app:1", "-", stdin=data)
    files = place.files()
    assert {name for name in files if name.startswith("c/")} == {"c/Dockerfile", "c/.dockerignore", "c/yes"}
    assert files["c/yes"][1:3] == (0, 0), "what is in a context is root's"


def test_a_dockerfile_on_standard_input(place: Place) -> None:
    place("build", "-t", "app:1", "-", stdin=HEAD.encode() + b"RUN echo x > /x\nCOPY <<E /y\ny\nE\n")
    files = place.files()
    assert (files["x"][3], files["y"][3]) == ("x\n", "y\n")
    said = place("build", "-", stdin=HEAD.encode() + b"COPY a /\n", status=3)
    assert "<stdin>:2" in said
    assert "standard input is empty" in place("build", "-", stdin=b"", status=5)
    place.write({"a": "from the context"})
    place("build", "-t", "app:2", "-f", "-", str(place.context), stdin=HEAD.encode() + b"COPY a /\n")
    assert place.files("app:2")["a"][3] == "from the context"


def test_addresses(place: Place, server: tuple[Path, str]) -> None:
    top, url = server
    (top / "c.tar.gz").write_bytes(archive({"Dockerfile": HEAD + "COPY f /\n", "f": "archived"}))
    (top / "other").write_text(HEAD + "RUN echo alone > /alone\n")
    place("build", "-t", "app:1", f"{url}/c.tar.gz")
    assert place.files()["f"][3] == "archived"
    place("build", "-t", "app:2", f"{url}/other")
    assert place.files("app:2")["alone"][3] == "alone\n"
    place("build", "-t", "app:3", "-f", f"{url}/other", str(place.context))
    assert place.files("app:3")["alone"][3] == "alone\n"
    assert "404" in place("build", f"{url}/missing", status=3)


def test_a_git_repository(place: Place, server: tuple[Path, str]) -> None:
    top, url = server
    text = HEAD + "COPY . /c/\n"
    files = {"Dockerfile": text, ".dockerignore": "no\n", "no": "", "sub/Dockerfile": text, "sub/f": "below"}
    commit = make_git(top / "x.git", files)
    place("build", "-t", "app:1", f"{url}/x.git/.git")
    assert {name for name in place.files() if name.startswith("c/")} >= {"c/Dockerfile", "c/sub/f"}
    assert not {"c/no", "c/.git"} & set(place.files())
    place("build", "-t", "app:2", f"{url}/x.git/.git#main:sub")
    assert place.files("app:2")["c/f"][3] == "below"
    place("build", "-t", "app:3", "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", f"{url}/x.git/.git#{commit}")
    assert "c/.git/HEAD" in place.files("app:3")
    assert "no such directory" in place("build", f"{url}/x.git/.git#main:none", status=3)
    assert place("build", f"{url}/x.git/.git#none", status=13)


def test_named_contexts(place: Place, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "f").write_text("named")
    (other / "skipped").write_text("")
    (other / ".dockerignore").write_text("skipped\n")
    place("build", "-t", "base:2", "-", stdin=HEAD.encode() + b"RUN echo 2 > /two\nENV A=b\n")
    text = "FROM busybox:1\nCOPY --from=files . /f/\nCOPY --from=image /two /\n"
    place.build(text, "--build-context", f"files={other}", "--build-context", "image=docker-image://base:2")
    files = place.files()
    assert files["f/f"][3] == "named"
    assert "f/skipped" not in files
    assert files["two"][3] == "2\n"
    place.build("FROM busybox:1\n", "--build-context", "busybox:1=docker-image://base:2", name="app:2")
    assert "A=b" in json.loads(place("image", "inspect", "app:2"))[0]["Config"]["Env"]
    assert "no such build context" in place.build(text, "--build-context", f"files={other}/none", status=3, name="x:1")


def test_a_folder_as_output(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("stays")
    text = "FROM busybox:1 AS b\nRUN mkdir /o && echo made > /o/bin && chmod 755 /o/bin && ln -s bin /o/l\n"
    place.build(text + "FROM scratch\nCOPY --chown=5:5 --from=b /o /\n", "--output", str(out))
    assert (out / "bin").read_text() == "made\n"
    status = (out / "bin").stat()
    assert (status.st_mode & 0o7777, status.st_uid) == (0o755, os.getuid())
    assert (out / "l").readlink() == Path("bin")
    assert (out / "mine").read_text() == "stays"
    assert [ref for ref in place.repo().refs("image") if "app" in ref] == [], "it is not kept"
    second = tmp_path / "second"
    place.build(text, "--output", str(second), "--load")
    assert place.files()["o/bin"][3] == "made\n"
    (second / "o/bin").write_text("changed outside")
    assert place.files()["o/bin"][3] == "made\n", "no file of the store was handed out"


def test_archives_as_output(place: Place, tmp_path: Path) -> None:
    text = "FROM scratch\nARG TARGETARCH\nCOPY --chown=5:6 <<E /f\n$TARGETARCH\nE\n"
    place.write({"Dockerfile": text})
    command = [sys.executable, "-m", "wherry", "--root", str(place.root), "--run-root", f"{place.root}-run", "build"]
    done = subprocess.run([*command, "-o", "-", str(place.context)], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as found:
        member = found.getmember("f")
        assert (member.uid, member.gid, member.size) == (5, 6, 6)
    both = ("--platform", "linux/amd64,linux/arm64")
    place("build", *both, "-o", f"type=tar,dest={tmp_path}/two.tar", str(place.context))
    with tarfile.open(tmp_path / "two.tar") as found:
        content = {name: found.extractfile(name) for name in ("linux_amd64/f", "linux_arm64/f")}
        assert [file.read() for file in content.values() if file] == [b"amd64\n", b"arm64\n"]
    for kind, flags in (("oci", both), ("docker", ())):
        file = tmp_path / f"{kind}.tar"
        place("build", "-t", f"out:{kind}", *flags, "-o", f"type={kind},dest={file}", str(place.context))
        assert "no such image" in place("image", "inspect", f"out:{kind}", status=3)
        place("image", "load", "-i", str(file))
        assert place.files(f"out:{kind}")["f"] == ("0o644", 5, 6, "amd64\n")
    place("build", "-o", f"type=oci,tar=false,dest={tmp_path}/layout", str(place.context))
    assert (tmp_path / "layout/oci-layout").is_file()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-o", "type=zip,dest=x"], "types are local"),
        (["-o", "type=local"], "needs a dest"),
        (["-o", "type=tar,colour=red,dest=x"], "unknown: colour"),
        (["-o", "type=oci,push=true,dest=x"], "only an image is pushed"),
        (["--network", "mine"], "default, none or host"),
        (["--ulimit", "nofile"], "nofile=1024:2048"),
        (["--memory", "x"], "--memory"),
        (["-t", "a@sha256:" + "0" * 64], "has a tag"),
        (["--build-context", "x"], "NAME=VALUE"),
        (["--secret", "src=x"], "id=ID"),
    ],
)
def test_options_that_say_nothing(place: Place, flags: list[str], words: str) -> None:
    place.write({"Dockerfile": "FROM scratch\n"})
    command = [sys.executable, "-m", "wherry", "--root", str(place.root), "--run-root", f"{place.root}-run", "build"]
    done = subprocess.run([*command, *flags, str(place.context)], capture_output=True, check=False)
    assert done.returncode in (2, 5)
    assert words in done.stderr.decode()


def test_what_is_written_about_it(place: Place, tmp_path: Path) -> None:
    flags = ("--iidfile", f"{tmp_path}/id", "--metadata-file", f"{tmp_path}/m")
    identifier = place.build("FROM scratch\nCOPY Dockerfile /\n", *flags).splitlines()[-1]
    assert (tmp_path / "id").read_text() == identifier
    found = json.loads((tmp_path / "m").read_text())
    assert found["containerimage.config.digest"] == identifier
    assert found["image.name"] == "app:1"
