"""What the commands of ``wherry host`` share."""

from __future__ import annotations

import pytest

from wherry.cli.host_context import check_ids
from wherry.core.errors import Unsupported


def test_a_user_with_one_id_is_told_before_anything_is_done() -> None:
    with pytest.raises(Unsupported, match="has 1; as root, or with a range in /etc/subuid"):
        check_ids("         0      65534          1\n")


@pytest.mark.parametrize("gid_map", ["0 0 4294967295\n", "0 1000 1\n1 100000 65536\n"])
def test_root_and_a_user_with_a_range_may_build(gid_map: str) -> None:
    check_ids(gid_map)
