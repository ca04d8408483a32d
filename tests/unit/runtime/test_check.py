"""What a specification must hold before anything is made for it."""

from __future__ import annotations

import pytest

from wherry.core.errors import Unsupported
from wherry.runtime.check import check_spec
from wherry.runtime.config import parse_config_value

MINIMAL = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs"},
    "process": {"args": ["true"], "cwd": "/"},
    "linux": {"namespaces": [{"type": "mount"}]},
}


@pytest.mark.parametrize("name", ["run.oci.keep_original_groups", "run.oci.handler"])
def test_annotations_that_ask_for_more_than_is_done(name: str) -> None:
    def check(**annotations: str) -> None:
        check_spec(parse_config_value({**MINIMAL, "annotations": annotations}).spec, "c")

    with pytest.raises(Unsupported, match=name):
        check(**{name: "1"})
    check(**{name: "0", "org.example": "1"})
