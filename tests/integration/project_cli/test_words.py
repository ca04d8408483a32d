"""The git words as a person types them: init, status, add, commit, diff, log, show, remote; and keys."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.project_cli.conftest import COMPOSE, Cli, one_line


def test_init(cli: Cli, tmp_path: Path) -> None:
    done = cli("init", "kiosk")
    root = tmp_path / "kiosk"
    assert sorted(path.name for path in root.iterdir()) == [".wherry", "compose.yaml", "config", "wherry.yaml"]
    assert done.out == (root / ".wherry/key.pub").read_text()
    assert (root / ".wherry/key").stat().st_mode & 0o777 == 0o600
    assert (root / ".wherry/.gitignore").read_text() == "*\n"
    assert "PRIVATE" not in done.out + done.err
    assert one_line(cli("init", "kiosk", status=4).err).startswith("this is a project already")
    assert "not a name for a project" in one_line(cli("init", "a b", status=5).err)
    assert cli("init", "a b", "--name", "ab").out
    assert cli.at(root)("commit", "-m", "empty").out.startswith("[kiosk ")


def test_init_keeps_what_is_there(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/wherry.yaml").write_text("name: panel\n")
    (tmp_path / "old/compose.yaml").write_text(COMPOSE)
    assert "made project panel" in cli("init", "old").err
    assert (tmp_path / "old/compose.yaml").read_text() == COMPOSE


def test_a_day_with_a_project(project: Cli) -> None:
    root = project.cwd
    assert project("status").out == (
        "Project kiosk, no revision yet\n"
        "Changes:\n"
        "\tnew file:   compose.yaml\n"
        "\tnew file:   config/web/index.html\n"
        "\tnew file:   wherry.yaml\n\n"
    )
    done = project("commit", "-m", "first")
    assert re.fullmatch(r"\[kiosk [0-9a-f]{12}\] \(first revision\) first\n apps: web; signed by key .*\n", done.out)
    assert project("status").out.endswith("nothing to commit\n")
    assert project("commit", "-m", "again", status=1).out == "nothing to commit\n"

    (root / "compose.yaml").write_text(
        COMPOSE.replace("web:1.0", "web:1.1").replace("TZ: UTC", "TZ: CET\n      FOO: bar")
    )
    (root / "config/web/index.html").write_text("hello\nworld\n")
    (root / "NOTES").write_text("mine\n")
    text = project("diff").out
    digest = r"\(sha256:[0-9a-f]{12}\)"
    assert re.search(rf"^app web: image web:1.0 {digest} -> web:1.1 {digest}$", text, re.MULTILINE)
    assert "app web: environment FOO added: bar\n" in text
    assert "app web: environment TZ: UTC -> CET\n" in text
    assert "app web: config changed\n" in text
    assert "config/web/index.html: changed (+1 -0)\n" in text
    assert "--- a/config/web/index.html\n+++ b/config/web/index.html\n@@ -1 +1,2 @@\n hello\n+world\n" in text
    assert "NOTES" not in text

    project.at(root / "config")("add", "web", "../NOTES")
    status = project("status", "--json").json()
    assert status["staged"] == [
        {"path": "NOTES", "kind": "added"},
        {"path": "config/web/index.html", "kind": "changed"},
    ]
    assert status["modified"] == [{"path": "compose.yaml", "kind": "changed"}]
    assert [change["path"] for change in project("diff", "--staged", "--json").json()["files"]] == [
        "NOTES",
        "config/web/index.html",
    ]
    second = project("commit", "-m", "the page", "-m", "and why", "--json").json()
    assert (second["subject"], second["body"]) == ("the page", "and why")
    project("commit", "-a", "-m", "web 1.1")

    log = project("log", "--json").json()
    assert [entry["subject"] for entry in log] == ["web 1.1", "the page", "first"]
    assert log[0]["parent"] == log[1]["commit"] == second["commit"]
    key_id = project("key", "show", ".wherry/key.pub", "--json").json()["id"]
    assert log[0]["signed_by"] == [key_id]
    assert log[0]["names"] == ["HEAD"]
    lines = project("log", "--oneline", "-n", "2").out.splitlines()
    assert lines == [f"{log[0]['commit'][:12]} (HEAD) web 1.1", f"{log[1]['commit'][:12]} the page"]
    assert project("log", "-n1").out.startswith(f"commit {log[0]['commit']} (HEAD)\nDate:   ")
    assert len(project("log", "HEAD~1", "--json").json()) == 2

    shown = project("show", "HEAD~2").out
    assert "app web\n  image web:1.0 (" in shown
    assert '  command ["/bin/httpd", "-f", "-p", "8080"]\n  environment TZ UTC\n  port 18080:8080/tcp\n' in shown
    assert "since " in project("show").out
    shown_json = project("show", "--json").json()
    assert shown_json["revision"]["apps"]["web"]["image"]["reference"] == "web:1.1"
    assert shown_json["changes"]["apps"][0]["kind"] == "changed"
    between = project("diff", "HEAD~2", "HEAD", "--json").json()
    assert [app["app"] for app in between["apps"]] == ["web"]
    assert project("diff", log[2]["commit"][:10], "--json").json() == between
    assert project("diff").out == ""


def test_the_same_inputs_give_the_same_revision(project: Cli, tmp_path: Path) -> None:
    fixed = project.with_env(SOURCE_DATE_EPOCH="1700000000")
    first = fixed("commit", "-m", "first", "--json").json()
    assert first["time_s"] == 1_700_000_000
    again = fixed.at(tmp_path)
    again("init", "other", "--name", "kiosk")
    for path in ("compose.yaml", "wherry.yaml", "config/web/index.html"):
        (tmp_path / "other" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "other" / path).write_bytes((project.cwd / path).read_bytes())
    second = again.at(tmp_path / "other")("commit", "-m", "first", "--json").json()
    assert second["commit"] == first["commit"]
    assert second["signed_by"] != first["signed_by"]
    bad = one_line(project.with_env(SOURCE_DATE_EPOCH="yesterday")("commit", "-m", "x", status=2).err)
    assert bad == "SOURCE_DATE_EPOCH is not seconds since 1970: 'yesterday'"


def test_a_key_kept_elsewhere(project: Cli, tmp_path: Path) -> None:
    (project.cwd / ".wherry/key").unlink()
    public = project("key", "generate", str(tmp_path / "owner.key")).out
    assert (tmp_path / "owner.key.pub").read_text() == public
    assert project("key", "public", str(tmp_path / "owner.key")).out == public
    made = project("commit", "-m", "first", "--key", str(tmp_path / "owner.key"), "--json").json()
    assert made["signed_by"] == [project("key", "show", "--json", str(tmp_path / "owner.key")).json()["id"]]
    assert "kind    private\n" in project("key", "show", str(tmp_path / "owner.key")).out
    assert "write over" in one_line(project("key", "generate", str(tmp_path / "owner.key"), status=4).err)


def test_remotes(project: Cli) -> None:
    project("remote", "add", "origin", "HTTP://Hub.example:80/")
    project("remote", "add", "spare", "https://spare.example:8443")
    assert project("remote").out == "origin\thttp://hub.example\nspare\thttps://spare.example:8443\n"
    project("remote", "set-url", "origin", "https://hub.example")
    project("remote", "remove", "spare")
    assert project("remote", "list", "--json").json() == [{"name": "origin", "url": "https://hub.example"}]
    assert "there already" in one_line(project("remote", "add", "origin", "http://x", status=4).err)
    assert "no remote 'spare'" in one_line(project("remote", "remove", "spare", status=3).err)
    assert "not an http:// or https:// address" in one_line(project("remote", "add", "x", "hub", status=5).err)
    assert "no remote 'nowhere'" in one_line(project("push", "nowhere", status=3).err)


def test_adding_and_removing(project: Cli) -> None:
    project("commit", "-m", "first")
    (project.cwd / "README").write_text("x")
    (project.cwd / "docs").mkdir()
    (project.cwd / "docs/a").write_text("x")
    assert project("status").out == (
        f"Project kiosk, revision {project('log', '--oneline').out[:12]} first\n"
        'Untracked files:\n  (use "wherry add FILE..." to have them in the next revision)\n'
        "\tREADME\n\tdocs/\n\nnothing to commit\n"
    )
    project("add", "-A")
    (project.cwd / "README").unlink()
    assert "\tdeleted:    README\n" in project("status").out
    project("add", ".")
    assert "README" not in project("status").out
    project("commit", "-m", "docs")
    assert "did not" not in project("status").out
    assert "say what to add" in one_line(project("add", status=2).err)
    assert "not in the project's folder" in one_line(project("add", "..", status=2).err)
    assert "no such file" in one_line(project("add", "nowhere", status=3).err)


def test_a_terminal_gets_no_orders(good: Cli) -> None:
    (good.cwd / "config/web/index.html").write_text("\x1b[2Jgone\n")
    assert "+\\x1b[2Jgone\n" in good("diff").out
    good("commit", "-m", "\x1b[2Jgone")
    for word in ("log", "show"):
        assert "\x1b" not in good(word).out


def test_help_has_examples(cli: Cli) -> None:
    for word in ("init", "add", "commit", "diff", "push", "clone"):
        assert "Examples:" in cli(word, "--help").out
