"""Several platforms under one name: which one is meant, what goes with the name, when an index counts no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.image.makers import Layout, file, make_tar

from wherry.core.errors import InvalidInput, NotFound
from wherry.image.catalog import ImageRecord, Images
from wherry.image.importing import import_image
from wherry.image.indexes import IndexRecord, find_index, orphans, record_index
from wherry.image.indexrefs import INDEX_PREFIX, PLATFORM_PREFIX, image_ref, member_ref
from wherry.image.naming import rename, tag
from wherry.image.platforms import Platform
from wherry.image.reference import Reference
from wherry.image.tidying import tidy
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

NAME = Reference.parse("registry.example:5000/app:1")
PLATFORMS = ("linux/arm64", "linux/amd64", "linux/arm/v7")


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "repo", Mode.BARE_USER)


@pytest.fixture(autouse=True)
def amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Platform, "of_this_machine", classmethod(lambda cls: cls(architecture="amd64")))


def image(repo: Repository, platform: str, content: str = "") -> ImageRecord:
    found = Platform.parse(platform)
    path = repo.path.parent / f"layout-{platform.replace('/', '-')}{content}"
    variant = {"variant": found.variant} if found.variant else {}
    made = Layout(path)
    layer = make_tar(file("what", platform + content))
    document: dict[str, Any] = {"architecture": found.architecture, "os": "linux", **variant}
    document["rootfs"] = {"type": "layers", "diff_ids": [made.blob(layer)["digest"]]}
    made.add(
        made.blob(
            json.dumps(
                {
                    "schemaVersion": 2,
                    "config": made.blob(json.dumps(document).encode(), "application/vnd.oci.image.config.v1+json"),
                    "layers": [made.blob(layer, "application/vnd.oci.image.layer.v1.tar")],
                }
            ).encode(),
            "application/vnd.oci.image.manifest.v1+json",
        )
    )
    return import_image(repo, str(path), name=f"one/{platform.replace('/', '-')}{content}:1")


def three(repo: Repository, raw: bytes | None = None) -> IndexRecord:
    return record_index(repo, NAME, [image(repo, platform) for platform in PLATFORMS], raw)


def test_the_name_leads_to_the_member_for_this_machine(repo: Repository) -> None:
    index = three(repo, b'{"manifests":[]}')
    images = Images(repo)
    assert images.get(str(NAME)).config.platform == "linux/amd64"
    for platform in PLATFORMS:
        found = images.get(str(NAME), platform=Platform.parse(platform))
        assert (found.config.platform, found.reference) == (platform, NAME)
        assert found in index.members
    assert find_index(repo, NAME) == index
    assert [member.config.platform for member in index.members] == list(PLATFORMS)
    assert sorted(repo.refs(PLATFORM_PREFIX)) == [
        "image-platform/linux_2Farm64/registry.example_3A5000/app_3A1",
        "image-platform/linux_2Farm_2Fv7/registry.example_3A5000/app_3A1",
    ]
    assert len([record for record in images.list() if record.reference == NAME]) == 1


def test_a_platform_that_is_not_there(repo: Repository) -> None:
    three(repo)
    with pytest.raises(NotFound, match=r"linux/amd64, linux/arm/v7, linux/arm64"):
        Images(repo).get(str(NAME), platform=Platform.parse("linux/riscv64"))
    assert Images(repo).get(str(NAME), platform=Platform.parse("linux/arm/v7")).config.platform == "linux/arm/v7"
    with pytest.raises(NotFound):
        Images(repo).get(str(NAME), platform=Platform.parse("linux/arm/v6"))


def test_the_first_where_none_is_for_this_machine(repo: Repository) -> None:
    record_index(repo, NAME, [image(repo, "linux/s390x"), image(repo, "linux/arm64")])
    assert Images(repo).get(str(NAME)).config.platform == "linux/s390x"


def test_removing_takes_all_of_it(repo: Repository) -> None:
    three(repo)
    Images(repo).remove(str(NAME))
    assert not repo.refs(PLATFORM_PREFIX)
    assert not repo.refs(INDEX_PREFIX)
    assert find_index(repo, NAME) is None
    assert len(Images(repo).list()) == 3, "the names that they were imported under"


def test_an_index_counts_no_more_when_its_name_moves(repo: Repository) -> None:
    three(repo)
    import_image(repo, str(repo.path.parent / "layout-linux-amd64"), name=str(NAME), changes=["ENV A=b"])
    assert find_index(repo, NAME) is None
    assert not repo.refs(PLATFORM_PREFIX), "older ones for other platforms are not mixed with the new one"


def test_the_same_image_again_leaves_the_index(repo: Repository) -> None:
    index = three(repo)
    import_image(repo, str(repo.path.parent / "layout-linux-amd64"), name=str(NAME))
    assert find_index(repo, NAME) == index


def test_members_that_an_index_has_no_more(repo: Repository) -> None:
    three(repo)
    members = [image(repo, "linux/amd64", "new"), image(repo, "linux/arm64", "new")]
    index = record_index(repo, NAME, members)
    assert [member.config.platform for member in index.members] == ["linux/amd64", "linux/arm64"]
    assert find_index(repo, NAME) == index
    assert len(repo.refs(PLATFORM_PREFIX)) == 1


def test_tidying(repo: Repository) -> None:
    three(repo)
    assert orphans(repo) == []
    assert tidy(repo).commits == frozenset()
    refs = repo.refs()
    doomed = {commit for ref, commit in refs.items() if image_ref(ref) is not None}
    repo.set_ref(NAME.ref, None)
    assert len(orphans(repo)) == 3
    assert tidy(repo).commits >= doomed
    assert not orphans(repo)


def test_an_index_of_which_a_member_has_gone_is_tidied(repo: Repository) -> None:
    three(repo)
    repo.set_ref(member_ref(NAME, Platform.parse("linux/arm64")), None)
    assert find_index(repo, NAME) is None
    assert [ref.partition("/")[0] for ref in orphans(repo)] == [INDEX_PREFIX]


def test_tag_and_rename_take_all_platforms(repo: Repository) -> None:
    index = three(repo, b"{}")
    tag(repo, str(NAME), "second:1")
    copy = find_index(repo, Reference.parse("second:1"))
    assert copy is not None
    assert (copy.raw, copy.digest) == (index.raw, index.digest)
    assert [member.digest for member in copy.members] == [member.digest for member in index.members]
    rename(repo, "second:1", "third:1")
    assert find_index(repo, Reference.parse("third:1")) is not None
    assert not [ref for ref in repo.refs() if "second" in ref]
    tag(repo, "one/linux-arm64:1", "third:1")
    assert find_index(repo, Reference.parse("third:1")) is None


def test_what_is_refused(repo: Repository) -> None:
    with pytest.raises(InvalidInput, match="0 images"):
        record_index(repo, NAME, [])
    with pytest.raises(InvalidInput, match="one platform"):
        record_index(repo, NAME, [image(repo, "linux/arm64"), image(repo, "linux/arm64", "x")])
    assert not repo.refs(NAME.ref)


def test_nothing_stays_of_an_index_that_failed(repo: Repository) -> None:
    members = [image(repo, platform) for platform in PLATFORMS]
    before = repo.refs()
    with pytest.raises(RuntimeError), repo.transaction():
        record_index(repo, NAME, members)
        raise RuntimeError
    assert repo.refs() == before
