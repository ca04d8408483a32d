"""What COPY and ADD take: trees, heredocs, archives, downloads, Git repositories; and whose it becomes."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from wherry.core.errors import InvalidInput, NotFound
from wherry.engine.build.adding import download, fetch_git, is_archive, lay_over, unpack
from wherry.engine.build.copying import Job, Ownership, copy, destination_of, expand_sources, needs_folder
from wherry.engine.build.stagetree import StageTree
from wherry.image.dockerfile.ignore import path_patterns
from wherry.image.dockerfile.modes import parse_chmod
from wherry.image.dockerfile.sources import GitSource, PathSource, UrlSource, classify
from wherry.image.dockerfile.syntax import Add, Copy, Heredoc
from wherry.runtime.users import look_up
from wherry.store.format.objects import FileHeader

if TYPE_CHECKING:
    from wherry.image.dockerfile.problems import Place


def owner_of(tree: StageTree, text: str, place: Place) -> Ownership:
    """Returns whose something becomes by ``USER[:GROUP]``, looked up in a root's own files.

    A number without a group is its group's number, too; a name's group is its own.

    Raises:
        NotFound: there is no such user or group.
    """
    if not text:
        return Ownership()
    user, _, group = text.partition(":")
    if user.isascii() and user.isdigit() and not group:
        return Ownership(uid=int(user), gid=int(user))
    passwd, groups = (tree.read_small(path).decode(errors="replace") for path in ("etc/passwd", "etc/group"))
    try:
        found = look_up(text, passwd, groups)
    except (NotFound, InvalidInput) as error:
        raise type(error)(error.what, where=place, hint=error.hint) from None
    return Ownership(uid=found.uid, gid=found.gid)


def _ownership(target: StageTree, node: Copy | Add, place: Place) -> Ownership:
    owner = owner_of(target, node.chown, place)
    mode: Callable[[int, bool], int] | None = None
    if node.chmod:
        change = parse_chmod(node.chmod, place)

        def mode(bits: int, directory: bool) -> int:
            return change.apply(bits, directory=directory)

    return Ownership(uid=owner.uid, gid=owner.gid, mode=mode)


def _job(node: Copy | Add, workdir: str, owner: Ownership, place: Place, paths: list[str]) -> Job:
    excludes = path_patterns(node.exclude, place).excludes if node.exclude else (lambda path: False)
    return Job(
        sources=paths,
        destination=node.destination,
        workdir=workdir,
        owner=owner,
        link=node.link,
        parents=isinstance(node, Copy) and node.parents,
        excludes=excludes,
        place=place,
    )


def carry_out_copy(target: StageTree, node: Copy, source: StageTree | None, workdir: str, place: Place) -> None:
    """Carries out a COPY.

    Args:
        target: the stage's root.
        node: the instruction, expanded.
        source: what is copied from; None where there are heredocs alone.
        workdir: of the stage.
        place: where it stands.
    """
    owner = _ownership(target, node, place)
    paths = [item for item in node.sources if isinstance(item, str)]
    _check_several(node, place)
    if paths and source is not None:
        copy(target, source, _job(node, workdir, owner, place, paths))
    _write_heredocs(target, node, workdir, owner)


def carry_out_add(
    target: StageTree,
    node: Add,
    contexts: Callable[[str], StageTree] | None,
    workdir: str,
    place: Place,
    *,
    environment: Mapping[str, str],
) -> None:
    """Carries out an ADD; ``contexts("")`` is the build context, `environment` that of git."""
    owner = _ownership(target, node, place)
    path, folder = destination_of(node.destination, workdir)
    _check_several(node, place)
    for item in node.sources:
        if isinstance(item, Heredoc):
            continue
        source = classify(item, place)
        if isinstance(source, GitSource):
            found = fetch_git(
                target.repo,
                source,
                keep_git_dir=node.keep_git_dir,
                checksum=node.checksum,
                environment=environment,
                where=str(place),
            )
            lay_over(target, found, path, owner)
        elif isinstance(source, UrlSource):
            _add_download(target, node, source, path, folder, owner, place)
        elif contexts is not None:
            _add_path(target, node, source, contexts(""), workdir, owner, place)
    _write_heredocs(target, node, workdir, owner)


def _add_path(
    target: StageTree,
    node: Add,
    source: PathSource,
    context: StageTree,
    workdir: str,
    owner: Ownership,
    place: Place,
) -> None:
    plain: list[str] = []
    for written, real in expand_sources(context, source.path, place):
        entry = context.lookup(real)
        if isinstance(entry, str) and node.unpack is not False and is_archive(target.repo, entry):
            unpack(target, entry, destination_of(node.destination, workdir)[0], owner, where=str(place))
        else:
            plain.append(written)
    if plain:
        copy(target, context, _job(node, workdir, owner, place, plain))


def _add_download(
    target: StageTree, node: Add, source: UrlSource, path: str, folder: bool, owner: Ownership, place: Place
) -> None:
    found = download(target.repo, source, node.checksum, where=str(place))
    if node.unpack and is_archive(target.repo, found):
        unpack(target, found, path, owner, where=str(place))
        return
    if folder or target.is_directory(target.follow(path)):
        if not source.file_name:
            raise InvalidInput("the address has no file name", where=place, hint="name the file in the destination")
        path = f"{path.rstrip('/')}/{source.file_name}"
    above, _, name = path.rpartition("/")
    real = target.make_directories(above, uid=owner.uid or 0, gid=owner.gid or 0)
    target.put(f"{real}/{name}".lstrip("/"), owner.file(target, found))


def _check_several(node: Copy | Add, place: Place) -> None:
    if len(node.sources) > 1 and not destination_of(node.destination, "/")[1]:
        raise needs_folder(node.destination, place)


def _write_heredocs(target: StageTree, node: Copy | Add, workdir: str, owner: Ownership) -> None:
    for item in node.sources:
        if not isinstance(item, Heredoc):
            continue
        path, folder = destination_of(node.destination, workdir)
        if folder or target.is_directory(target.follow(path)):
            path = f"{path.rstrip('/')}/{item.name}"
        above, _, name = path.rpartition("/")
        real = target.make_directories(above, uid=owner.uid or 0, gid=owner.gid or 0)
        mode = 0o644 if owner.mode is None else owner.mode(0o644, False)
        header = FileHeader(uid=owner.uid or 0, gid=owner.gid or 0, mode=stat.S_IFREG | mode)
        target.write_file(f"{real}/{name}".lstrip("/"), header, item.content.encode())
