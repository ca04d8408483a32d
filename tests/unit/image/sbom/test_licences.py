"""Names and texts of licences, made into SPDX expressions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.image.sbom.copyright import debian_expression, read_copyright
from wherry.image.sbom.licences import conjunction, disjunction, expression, recognise
from wherry.image.sbom.model import Basis


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("MIT", "MIT"),
        ("mit license", "MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPLv2", "GPL-2.0-only"),
        ("LGPLv2+ and MIT", "LGPL-2.0-or-later AND MIT"),
        ("Apache-2.0 AND (MIT OR Foo)", "Apache-2.0 AND (MIT OR LicenseRef-Foo)"),
        ("GPL-2.0-or-later WITH GCC-exception-3.1", "GPL-2.0-or-later WITH GCC-exception-3.1"),
        ("GPL-2.0 WITH nonsense", "LicenseRef-GPL-2.0-WITH-nonsense"),
        ("(MIT", "LicenseRef-MIT"),
        ("see the file ÿ/../x", "LicenseRef-see-the-file-..-x"),
        ("UNKNOWN", ""),
        (" \n", ""),
        ("((" * 900, "LicenseRef-unnamed"),
        ("MIT AND " * 10_000 + "MIT", None),
    ],
)
def test_expressions(given: str, found: str | None) -> None:
    if found is None:
        assert expression(given)
    else:
        assert expression(given) == found


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("GPL-2+ or Artistic, and BSD-3-clause", "(GPL-2.0-or-later OR Artistic-1.0) AND BSD-3-Clause"),
        ("Expat and GPL-3", "GPL-3.0-only AND MIT"),
        ("GPL-3+ with Bison exception", "GPL-3.0-or-later WITH Bison-exception-2.2"),
        ("GPL-2+ with OpenSSL exception", "LicenseRef-GPL-2-plus-with-OpenSSL-exception"),
        ("GFDL-1.3+-no-invariants", "GFDL-1.3-no-invariants-or-later"),
        ("public-domain", "LicenseRef-public-domain"),
        ("X11 or Expat", "X11 OR MIT"),
    ],
)
def test_debian_names(given: str, found: str) -> None:
    assert debian_expression(given) == found


def test_joins_are_flat_and_each_part_stands_once() -> None:
    assert conjunction(["MIT AND ISC", "ISC", "", "MIT OR Zlib"]) == "(MIT OR Zlib) AND ISC AND MIT"
    assert conjunction([]) == disjunction([]) == ""
    assert disjunction(["MIT AND ISC", "Zlib", "Zlib"]) == "(MIT AND ISC) OR Zlib"


def test_machine_readable_copyright() -> None:
    read = read_copyright(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        "Upstream-Name: x\n\nFiles: *\nCopyright: me\nLicense: GPL-2+\n\nFiles: a\nCopyright: me\n"
        "License: odd\n Do as\n .\n you like.\n\nLicense: GPL-2+\n text\n\nLicense: Expat\n unused\n"
    )
    assert (read.licence, read.basis) == ("GPL-2.0-or-later AND LicenseRef-odd", Basis.DECLARED)
    assert read.texts == (("LicenseRef-odd", "Do as\n\nyou like."),)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see `/usr/share/common-licenses/GPL-3'.", ("GPL-3.0-only",)),
        (
            "under version 2 of the License, or\n(at your option) any later version. /usr/share/common-licenses/GPL-2.",
            ("GPL-2.0-or-later",),
        ),
        ("version 2, or (at your option) any later version; /usr/share/common-licenses/GPL", ("GPL-2.0-or-later",)),
        ("/usr/share/common-licenses/Apache-2.0", ("Apache-2.0",)),
        ("# SPDX-License-Identifier: MIT OR ISC\n", ("MIT OR ISC",)),
        ("all rights reserved", ()),
        ("", ()),
    ],
)
def test_texts_for_people(text: str, found: tuple[str, ...]) -> None:
    assert recognise(text) == found
    assert read_copyright(text).basis is (Basis.RECOGNISED if found else Basis.UNKNOWN)


_WORDS = (
    "MIT",
    "and",
    "OR",
    "with",
    "(",
    ")",
    "GPL-2.0+",
    "foo",
    "/",
    "+",
    "'",
    "not",
    "&",
    "Classpath-exception-2.0",
    "1",
)


@given(st.lists(st.sampled_from(_WORDS), max_size=9).map(" ".join) | st.text(max_size=40))
def test_any_words_are_an_expression_or_nothing(text: str) -> None:
    found = expression(text)
    assert found == expression(text)
    assert not found or found.isprintable()
