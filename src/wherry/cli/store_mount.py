"""``wherry store mount`` and ``unmount``: a commit's tree as a folder, without laying it out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.output import note, print_json, print_table
from wherry.cli.store import open_repo, repo_option
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.store.repository import Repository

_VERITY = ("no", "maybe", "require")


@click.command(
    epilog="""\b
Examples:
  wherry store mount --repo=repo os/main /mnt
  wherry store mount --repo=repo --read-write os/main /mnt
  wherry store mount --repo=repo -o upperdir=changes,workdir=work,nosuid os/main /mnt
  wherry store unmount /mnt"""
)
@repo_option
@click.argument("rev", metavar="COMMIT", required=False)
@click.argument("target", metavar="DIR", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o", "options", multiple=True, metavar="OPTIONS",
    help="ro, rw, nosuid, nodev, noexec, noatime, upperdir=DIR, workdir=DIR, verity[=no|maybe|require], digest=HEX.",
)  # fmt: skip
@click.option("--read-write", "-w", is_flag=True, help="Let it be written to; in memory, unless -o upperdir=DIR.")
@click.option("--verity", type=click.Choice(_VERITY), help="Have the kernel check every read (fs-verity).")
@click.option("--no-checkout", is_flag=True, help="Fail where the kernel cannot mount, instead of laying files out.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done, or what is mounted, as JSON.")
def mount(repo_path: str | None, rev: str | None, target: Path | None, as_json: bool, **given: Any) -> None:
    """Mount a commit, or list what is mounted.

    Without COMMIT and DIR the mounts are listed. A mount is read-only unless told otherwise; repository and commit
    are never written to. `prune` keeps commits that it sees mounted.
    """
    if rev is None:
        _list(as_json=as_json)
        return
    if target is None:
        raise UsageError("no folder to mount on is named", hint="wherry store mount COMMIT DIR")
    from wherry.store.mount.trees import Verity, mount_commit

    settings = _Settings(given)
    repo = open_repo(repo_path)
    commit = repo.resolve(rev)
    if settings.digest:
        _check_digest(repo, commit, settings.digest)
    done = mount_commit(
        repo,
        commit,
        target,
        check=Verity(settings.verity) if settings.verity else None,
        upper=settings.upper,
        work=settings.work,
        in_memory=settings.read_write and settings.upper is None,
        flags=settings.flags,
        may_check_out=not given["no_checkout"],
    )
    if done.how != "composefs":
        note("note: this kernel cannot mount the image; the tree was laid out as files in the repository")
    if as_json:
        print_json(
            {
                "commit": done.commit,
                "target": str(done.target),
                "how": done.how,
                "image": str(done.image) if done.image else None,
                "data_layer": done.data_layer,
                "loop": done.loop,
                "read_only": done.read_only,
                "verity": done.verity,
            }
        )


@click.command(epilog="\b\nExample:\n  wherry store unmount /mnt")
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--lazy", "-l", is_flag=True, help="Take it away now, even while it is in use.")
def unmount(target: Path, lazy: bool) -> None:
    """End a mount of a commit.

    Other mounts are left alone. `umount DIR` does the same.
    """
    from wherry.store.mount.mounting import unmount as end

    end(target, lazy=lazy)


class _Settings:
    """The options of ``mount``, those behind ``-o`` among them."""

    def __init__(self, given: dict[str, Any]) -> None:
        from wherry.linux import mount

        flags = {
            "nosuid": mount.MS_NOSUID,
            "nodev": mount.MS_NODEV,
            "noexec": mount.MS_NOEXEC,
            "noatime": mount.MS_NOATIME,
        }
        self.read_write: bool = given["read_write"]
        self.verity: str | None = given["verity"]
        self.upper: Path | None = None
        self.work: Path | None = None
        self.digest = ""
        self.flags = 0
        for option in ",".join(given["options"]).split(","):
            key, equals, value = option.partition("=")
            if key in flags and not equals:
                self.flags |= flags[key]
            elif key in ("ro", "rw") and not equals:
                self.read_write = key == "rw"
            elif key in ("upperdir", "workdir") and value:
                setattr(self, key.removesuffix("dir"), Path(value).absolute())
            elif key == "verity" and (value in _VERITY or not equals):
                self.verity = value or "require"
            elif key == "digest" and value:
                self.digest = value
            elif option:
                raise UsageError(f"-o {option} is not known", hint="`wherry store mount --help` names those that are")
        if (self.upper is None) != (self.work is None):
            raise UsageError("upperdir and workdir are given together")


def _check_digest(repo: Repository, commit: Checksum, wanted: str) -> None:
    """Refuses a commit whose image has another fs-verity digest than the one that is wanted."""
    from wherry.core.errors import IntegrityError
    from wherry.store.mount.composefs import digest_of_tree

    found = repo.load_commit(commit)
    digest = digest_of_tree(repo, found.tree, found.meta).hex()
    if digest != wanted.lower():
        raise IntegrityError(f"the image has the digest {digest}, not {wanted}", where=commit)


def _list(*, as_json: bool) -> None:
    from wherry.store.mount.seen import mounts

    found = mounts()
    if as_json:
        print_json([{"commit": seen.commit, "target": str(seen.target), "read_only": seen.read_only} for seen in found])
    elif found:
        rows = [[seen.commit[:12], "ro" if seen.read_only else "rw", str(seen.target)] for seen in found]
        print_table(["COMMIT", "", "DIR"], rows, shrink=2)
