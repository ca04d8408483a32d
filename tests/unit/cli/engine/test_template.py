"""``--format``: Go's templates as docker's users write them; bounded, and told where they are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.cli.template import MAX_CHARS, Template, print_rows
from wherry.core.errors import UsageError

VALUE: dict[str, Any] = {
    "Id": "abc",
    "State": {"Pid": 12, "Running": True, "Error": ""},
    "Config": {"Env": ["A=b", "C=d"], "Labels": {"app.name": "web", "tier": "front"}, "Cmd": None},
    "Networks": {"bridge": {"IPAddress": "10.0.0.2"}, "other": {"IPAddress": "10.1.0.2"}},
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{{.Id}}", "abc"),
        ("{{ .State.Pid }}/{{.State.Running}}", "12/true"),
        ("{{json .Config.Env}}", '["A=b","C=d"]'),
        ("{{json .State}}", '{"Pid":12,"Running":true,"Error":""}'),
        ("{{.Config.Env}}", "[A=b C=d]"),
        ("{{.Config.Labels}}", "map[app.name:web tier:front]"),
        ('{{index .Config.Labels "app.name"}}', "web"),
        ("{{.Config.Labels.tier}} {{.Config.Labels.none}}", "front <no value>"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=b\nC=d\n"),
        ("{{range $k, $v := .Networks}}{{$k}}={{$v.IPAddress}};{{end}}", "bridge=10.0.0.2;other=10.1.0.2;"),
        ("{{range .Networks}}{{.IPAddress}} {{end}}", "10.0.0.2 10.1.0.2 "),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Error}}bad{{else if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{with .State}}{{.Pid}}{{end}}", "12"),
        ('{{join .Config.Env ","}}', "A=b,C=d"),
        ('{{range $i, $e := split "a-b" "-"}}{{$i}}{{$e}}{{end}}', "0a1b"),
        ("{{upper .Id}} {{.Id | upper | lower}} {{len .Config.Env}}", "ABC abc 2"),
        ("{{(index .Config.Env 0) | upper}}", "A=B"),
        ('{{printf "%s-%05d|%-5s|" .Id 7 "x"}}', "abc-    7|x    |"),
        ("{{/* nothing */}}a {{- .Id -}} b", "aabcb"),
        ("{{.Config.Cmd}}", "<nil>"),
        ("{{$x := .Id}}{{$x}}{{$.Id}}", "abcabc"),
        ("{{if and .Id (eq .State.Pid 12)}}y{{end}}", "y"),
        ("{{if not .State.Error}}y{{end}}", "y"),
        (r"{{.Id}}\t{{.Id}}\n", "abc\tabc\n"),
        ('{{"}}"}}', "}}"),
        ("no action", "no action"),
    ],
)
def test_as_go_prints_it(text: str, wanted: str) -> None:
    assert Template(text).render(VALUE) == wanted


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{.Id", "not closed"),
        ("{{if .Id}}x", "without 'end'"),
        ("{{end}}", "without a beginning"),
        ("{{.Nope}}", "no field 'Nope'"),
        ("{{.State.Pid.Nope}}", "no field 'Nope'"),
        ("{{system .Id}}", "no function 'system'"),
        ('{{template "x"}}', "not supported"),
        ("{{}}", "missing"),
        ("{{.Id | .Id}}", "not a function"),
        ("{{(.Id}}", "parenthesis"),
        ("{{$nope}}", "no variable"),
        ("{{range .Id}}{{end}}", "cannot go over"),
        ("{{len .State.Pid}}", "len"),
        ("{{index .Config.Env 5}}", "out of range"),
        ("{{.Id ! }}", "not understood"),
        ("{{" + "(" * 100 + ".Id" + ")" * 100 + "}}", "too deeply"),
        ("{{if .Id}}" * 100 + "{{end}}" * 100, "too deeply"),
        ("x" * (MAX_CHARS + 1), "longer"),
    ],
)
def test_what_is_refused_is_named(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match="--format") as caught:
        Template(text).render(VALUE)
    assert complaint in str(caught.value)


def test_output_is_bounded() -> None:
    many = {"Items": list(range(4000))}
    with pytest.raises(UsageError, match="too much"):
        Template("{{range .Items}}{{range $.Items}}xxxxxxxx{{end}}{{end}}").render(many)


def test_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"ID": "1", "CreatedAt": "now"}, {"ID": "22", "CreatedAt": "then"}]
    print_rows("{{.ID}}", rows, {})
    assert capsys.readouterr().out == "1\n22\n"
    print_rows("json", rows, {})
    assert capsys.readouterr().out == '{"ID":"1","CreatedAt":"now"}\n{"ID":"22","CreatedAt":"then"}\n'
    print_rows("table {{.ID}}\t{{.CreatedAt}}", rows, {"ID": "THE ID"})
    assert capsys.readouterr().out == "THE ID  CREATED AT\n1       now\n22      then\n"
