"""Dockerfiles carried out: files, modes, owners, mounts, the cache, and what goes wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from tests.integration.build.conftest import Place, make_tree

from wherry.store.care.fsck import fsck

HEAD = "FROM busybox:1\n"


def test_files_come_where_docker_puts_them(place: Place) -> None:
    place.write(
        {"a.txt": "a", "b.txt": "b", "dir/in.txt": "in", "dir/deep/x": "x", ".dockerignore": "*.log\ndir/skip\n"}
    )
    place.write({"x.log": "log", "dir/skip/y": "y"})
    os.chmod(place.context / "a.txt", 0o640)
    os.symlink("in.txt", place.context / "dir/link")
    place.build(
        HEAD
        + "WORKDIR /w\nCOPY a.txt renamed\nCOPY a.txt b.txt /many/\nCOPY *.txt patterns/\nCOPY dir /whole\n"
        + "COPY --chown=app:other --chmod=700 b.txt /owned/\nCOPY --chown=7 b.txt /seven\nCOPY . /all/\n"
        + "COPY --parents dir/deep/x /kept/\nCOPY --exclude=*.txt dir /less\n"
    )
    files = place.files()
    assert files["w/renamed"] == ("0o640", 0, 0, "a")
    assert {name for name in files if name.startswith("many/")} == {"many/a.txt", "many/b.txt"}
    assert {name for name in files if name.startswith("w/patterns/")} == {"w/patterns/a.txt", "w/patterns/b.txt"}
    assert files["whole/in.txt"][3] == "in"
    assert files["whole/link"] == ("link", 0, 0, "in.txt")
    assert files["owned/b.txt"] == ("0o700", 1000, 5, "b")
    assert files["owned"][1:3] == (1000, 5)
    assert files["seven"][1:3] == (7, 7)
    assert files["kept/dir/deep/x"][3] == "x"
    assert "all/Dockerfile" in files
    assert "all/x.log" not in files
    assert "all/dir/skip" not in files
    assert {name for name in files if name.startswith("less/")} == {"less/deep", "less/deep/x", "less/link"}


def test_run_sees_what_it_should(place: Place) -> None:
    place.build(
        "ARG OUTER=o\n" + HEAD + "ARG OUTER\nARG V=1\nENV E=$V-$OUTER\nUSER app\nWORKDIR /tmp/w\nUSER root\n"
        'RUN echo "$V $OUTER $E" > /args; pwd > /pwd; id -u > /id\nUSER 1000:5\nRUN ["/bin/sh", "-c", "true"]\n'
        'SHELL ["/bin/sh", "-ec"]\nUSER root\nRUN <<EOF\necho one > /one\necho two > /two\nEOF\n'
        "RUN cat <<'EOF' > /raw\n$V\nEOF\nCOPY <<EOF /expanded\n$V\nEOF\n",
        "--build-arg",
        "V=2",
    )
    files = place.files()
    assert files["args"][3] == "2 o 2-o\n"
    assert files["pwd"][3] == "/tmp/w\n"
    assert files["id"][3] == "0\n"
    assert files["tmp/w"][1:3] == (1000, 1001)
    assert (files["one"][3], files["two"][3], files["raw"][3], files["expanded"][3]) == (
        "one\n",
        "two\n",
        "$V\n",
        "2\n",
    )


def test_the_config(place: Place) -> None:
    place.build(
        HEAD + 'CMD ["a"]\nENTRYPOINT ["/bin/sh"]\nLABEL a=b "c d"="e f"\nEXPOSE 80 53/udp\nVOLUME /v\n'
        "STOPSIGNAL SIGUSR1\nHEALTHCHECK --interval=5s --retries=2 CMD true\nONBUILD RUN echo built > /onbuild\n",
        "--label",
        "x=y",
    )
    (found,) = json.loads(place("image", "inspect", "app:1"))
    config = found["Config"]
    assert config["Entrypoint"] == ["/bin/sh"]
    assert config["Cmd"] == ["a"]
    assert config["Labels"] == {"a": "b", "c d": "e f", "x": "y"}
    assert set(config["ExposedPorts"]) == {"80/tcp", "53/udp"}
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9, "Retries": 2}
    assert (config["StopSignal"], set(config["Volumes"])) == ("SIGUSR1", {"/v"})
    place.build("FROM app:1\nENTRYPOINT []\n", name="app:2")
    (second,) = json.loads(place("image", "inspect", "app:2"))
    assert not second["Config"].get("OnBuild")
    assert place.files("app:2")["onbuild"][3] == "built\n"


def test_stages(place: Place) -> None:
    place.write({"a": "a"})
    text = (
        "FROM busybox:1 AS first\nRUN echo made > /made\nFROM busybox:1 AS never\nRUN false\n"
        "FROM scratch AS last\nCOPY --from=first /made /\nCOPY --from=0 /made /again\n"
        "COPY --from=busybox:1 /etc/passwd /p\n"
    )
    place.build(text)
    repo = place.repo()
    files = place.files()
    assert files["made"][3] == files["again"][3] == "made\n"
    assert len(repo.refs("build-cache")) == 1
    assert not repo.refs("build-step")
    assert "false" in place.build(text, "--target", "never", status=13, name="x:1")
    assert "no stage 'other'" in place.build(text, "--target", "other", status=3, name="x:1")


def test_mounts(place: Place, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    place.write({"src/a": "from the context"})
    text = (
        "FROM busybox:1 AS tool\nRUN echo tool > /tool\nFROM busybox:1\n"
        "RUN --mount=type=secret,id=s,mode=0444,uid=5 stat -c '%a %u' /run/secrets/s > /st\n"
        "RUN --mount=type=secret,id=s,env=S test ${#S} = 6\n"
        "RUN --mount=type=bind,from=tool,target=/mnt/t cat /mnt/t/tool > /t\n"
        "RUN --mount=type=bind,source=src,target=/src cat /src/a > /a\n"
        "RUN --mount=type=tmpfs,target=/gone echo x > /gone/x\n"
        "RUN --mount=type=cache,target=/c echo x >> /c/n; cat /c/n > /count\n"
    )
    place.build(text, "--secret", f"id=s,src={secret}")
    files = place.files()
    assert files["st"][3] == "444 5\n"
    assert (files["t"][3], files["a"][3], files["count"][3]) == ("tool\n", "from the context", "x\n")
    assert not {"run", "run/secrets", "mnt", "src", "gone", "c"} & set(files)
    place.build(text, "--secret", f"id=s,src={secret}", "--no-cache")
    assert place.files()["count"][3] == "x\nx\n"
    assert not [path for path in place.root.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    required = HEAD + "RUN --mount=type=secret,id=none,required=true true\n"
    assert "no secret 'none'" in place.build(required, status=3)


def test_what_the_cache_knows(place: Place) -> None:
    text = HEAD + "ARG V=1\nCOPY file /\nRUN echo ran >> /log\n"
    place.write({"file": "x"})

    def cached(*flags: str) -> bool:
        place.build(text, *flags)
        return "CACHED" in place.said

    assert not cached()
    assert cached()
    os.utime(place.context / "file", (1, 1))
    assert cached(), "a time is no change"
    os.chmod(place.context / "file", 0o600)
    assert not cached(), "a mode is"
    assert not cached("--build-arg", "V=2")
    assert cached("--build-arg", "V=2")
    assert not cached("--no-cache")
    place.build("FROM busybox:1 AS other\nARG V=1\nCOPY file /\nRUN echo ran >> /log\nFROM other\n", name="o:1")
    assert "CACHED" in place.said, "another stage may use it"


def test_two_machines_build_the_same(place: Place, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    second = Place(other)
    text = HEAD + "COPY a /\nRUN mkdir /d; touch /d/x; ln /d/x /d/y\nLABEL a=b\n"
    for where in (place, second):
        where.write({"a": "a"})
        where.build(text)
        time.sleep(1.1)
    assert place("image", "inspect", "app:1") == second("image", "inspect", "app:1")
    place.build(text, "--build-arg", "SOURCE_DATE_EPOCH=86400", name="app:2")
    assert json.loads(place("image", "inspect", "app:2"))[0]["Created"] == "1970-01-02T00:00:00Z"


def test_add(place: Place) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("inner/file")
        info.size, info.uid = 2, 7
        archive.addfile(info, io.BytesIO(b"hi"))
    (place.context / "a.tar.gz").write_bytes(buffer.getvalue())
    place.build(HEAD + "ADD a.tar.gz /unpacked/\nADD --unpack=false a.tar.gz /whole/\nCOPY a.tar.gz /copied/\n")
    files = place.files()
    assert files["unpacked/inner/file"] == ("0o644", 7, 0, "hi")
    assert "whole/a.tar.gz" in files
    assert "copied/a.tar.gz" in files


def test_add_from_git_and_the_web(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "git"
    source.mkdir()
    environment = {**os.environ, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a"}
    environment |= {"GIT_COMMITTER_EMAIL": "a@b", "HOME": str(tmp_path)}
    (source / "sub").mkdir()
    (source / "sub/file").write_text("tracked")
    for line in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "x"], ["update-server-info"]):
        subprocess.run(["git", "-C", str(source), *line], check=True, env=environment)
    (tmp_path / "file.bin").write_text("downloaded")
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().split()[5].decode()
        url = f"http://127.0.0.1:{port}"
        good = "sha256:" + hashlib.sha256(b"downloaded").hexdigest()
        place.build(
            HEAD
            + f"ADD {url}/git/.git#main:sub /repo/\nADD {url}/file.bin /web/\nADD --checksum={good} {url}/file.bin /x\n"
        )
        files = place.files()
        assert files["repo/file"][3] == "tracked"
        assert files["web/file.bin"] == ("0o600", 0, 0, "downloaded")
        bad = HEAD + f"ADD --checksum=sha256:{'0' * 64} {url}/file.bin /x\n"
        assert "instead of sha256:000" in place.build(bad, status=6)
        assert "404" in place.build(HEAD + f"ADD {url}/missing /x\n", status=3)
    finally:
        server.terminate()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def test_a_context_that_is_an_archive(place: Place) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in (
            ("Dockerfile", HEAD.encode() + b"COPY . /c/\n"),
            (".dockerignore", b"no\n"),
            ("no", b""),
            ("yes", b""),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    place("build", "-t", "app:1", "-", stdin=buffer.getvalue())
    assert {name for name in place.files() if name.startswith("c/")} == {"c/Dockerfile", "c/.dockerignore", "c/yes"}


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        (HEAD + "RUN echo before; false\n", 13, "Dockerfile:2: RUN echo before; false"),
        (HEAD + "COPY nothing /\n", 3, "Dockerfile:2"),
        (HEAD + "COPY Dockerflie /\n", 3, "did you mean Dockerfile?"),
        (HEAD + "COPY --chown=nobody Dockerfile /\n", 3, "nobody"),
        (HEAD + "COPY Dockerfile /etc/passwd/x\n", 5, "in the way"),
        (HEAD + "COPY Dockerfile Dockerfile /x\n", 5, "write it as /x/"),
        (HEAD + "FORM x\n", 5, "unknown instruction: 'FORM'"),
        ("FROM 127.0.0.1:1/none:1\n", 8, "no answer"),
        ("RUN true\n", 5, "FROM"),
        (HEAD + "RUN --mount=type=ssh,required=true true\n", 3, "--ssh"),
        (HEAD + "COPY ../../etc/hostname /\n", 3, "not in what is copied from"),
    ],
)
def test_errors_point_at_the_line(place: Place, text: str, status: int, words: str) -> None:
    assert words in place.build(text, status=status)
    assert [ref for ref in place.repo().refs("image") if "app" in ref] == []
    assert json.loads(place("ps", "-a", "--json")) == []


def test_links_do_not_lead_out(place: Place) -> None:
    os.symlink("/etc", place.context / "evil")
    assert "not in what is copied from" in place.build(HEAD + "COPY evil/hostname /\n", status=3)
    place.build(HEAD + "RUN ln -s /../../../outside /link\nCOPY Dockerfile /link/\n")
    assert "outside/Dockerfile" in place.files()


def test_quiet_prints_the_id_alone(place: Place) -> None:
    identifier = place.build(HEAD + "RUN echo loud\n", "-q")
    assert identifier.startswith("sha256:")
    assert place.said == ""
    assert "loud and wrong" in place.build(HEAD + "RUN echo loud and wrong; false\n", "-q", status=13)


def test_killed_in_the_middle(place: Place) -> None:
    place.write({"Dockerfile": HEAD + "RUN echo started; cat < /dev/zero > /dev/null\n"})
    command = [sys.executable, "-m", "wherry", "--root", str(place.root), "--run-root", f"{place.root}-run"]
    process = subprocess.Popen(
        [*command, "build", "-t", "app:1", str(place.context)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if line.strip() == b"started":
                break
        process.send_signal(signal.SIGKILL)
    place("image", "prune", "-f")
    assert json.loads(place("ps", "-a", "--json")) == []
    assert not [ref for ref in place.repo().refs() if "app" in ref or ref.startswith("build-step")]
    assert fsck(place.repo()).ok
    place.build(HEAD + "RUN echo well\n")
    assert "Total reclaimed space" in place("builder", "prune", "-f")
    assert not place.repo().refs("build-cache")
    assert fsck(place.repo()).ok


def test_other_architectures_into_one_index(place: Place) -> None:
    place.build(
        "FROM scratch\nARG TARGETARCH\nCOPY <<EOF /arch\n$TARGETARCH\nEOF\n", "--platform", "linux/amd64,linux/arm64"
    )
    assert place.files()["arch"][3] == "amd64\n"
    assert len(place.repo().refs("image-platform")) == 1


def test_somebody_elses_tree_is_the_base(place: Place, tmp_path: Path) -> None:
    context = make_tree(tmp_path / "named")
    text = "FROM scratch\nCOPY --from=tools /bin/ /bin/\nCOPY --from=tools /etc/ /etc/\nRUN echo works > /w\n"
    place.build(text, "--build-context", f"tools={context}")
    assert place.files()["w"][3] == "works\n"


def test_what_builds_keep_is_told_and_given_back(place: Place) -> None:
    fill = "RUN --mount=type=cache,target=/c,id=c cat /bin/sh >/c/a"
    place.build(f"FROM busybox:1\n{fill}\nRUN echo 12345678 >/f && cat /f /f >/g\n")

    def cache() -> tuple[int, dict[str, int]]:
        found = json.loads(place("system", "df", "--json"))
        return found["BuildCacheBytes"], {item["description"]: item["size_bytes"] for item in found["BuildCache"]}

    mounted, items = cache()
    assert mounted == items["RUN --mount=type=cache"] > 100_000, "what an image has counts for the image"
    place("rmi", "app:1")
    total, items = cache()
    assert items["RUN echo 12345678 >/f && cat /f /f >/g"] == 9 + 18
    assert total == mounted + 9 + 18
    assert "exec.cachemount" in place("system", "df", "-v")
    assert "Deleted Build steps:" in place("system", "prune", "-af")
    assert cache() == (0, {})
