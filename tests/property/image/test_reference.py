"""Every reference goes into a ref name and back, and no two share one."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from wherry.core.errors import InvalidInput
from wherry.image.reference import Reference

OSTREE_REF = re.compile(r"(?:[\w\d][-._\w\d]*/)*[\w\d][-._\w\d]*\Z", re.ASCII)

label = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,6}[a-zA-Z0-9])?", fullmatch=True)
domain = st.builds(
    lambda labels, port: ".".join(labels) + port,
    st.lists(label, min_size=2, max_size=3),
    st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}")),
)
component = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
path = st.lists(component, min_size=1, max_size=4).map("/".join)
tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digest = st.binary(min_size=32, max_size=32).map(lambda raw: "@sha256:" + raw.hex())
hosts = st.one_of(domain.map(lambda host: host + "/"), st.sampled_from(["localhost/", "[::1]:5000/"]))
written = st.builds(
    lambda name, end, pin: name + end + pin,
    st.one_of(
        st.builds(str.__add__, hosts, path),
        path.filter(lambda text: "." not in text.split("/")[0]),  # else the first part is a host
    ),
    st.one_of(st.just(""), tag.map(lambda text: ":" + text)),
    st.one_of(st.just(""), digest),
)


@given(written)
def test_there_and_back(text: str) -> None:
    reference = Reference.parse(text)
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference
    assert OSTREE_REF.match(reference.ref)
    assert Reference.from_ref(reference.ref) == reference


@given(written, written)
def test_no_ref_is_a_folder_of_another(first: str, second: str) -> None:
    one, other = Reference.parse(first).ref, Reference.parse(second).ref
    assert not other.startswith(one + "/")


@given(st.text(max_size=60))
def test_anything_is_parsed_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidInput:
        return
    assert Reference.from_ref(reference.ref) == reference
