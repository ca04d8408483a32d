"""The builder that has Buildroot do the work.

==========  =============================================================================================
buildroot   the tree of Buildroot, copied to where it is the same on any machine
layers      the layers, and what is made of them (`staging.py`)
config      ``make defconfig``, and a comparison of what came of it with what was asked for
fetch       ``make source``, the one step with the network; offline it tells what is missing
build       ``make``, in a folder that stays between builds (`output.py`)
root        Buildroot's tar of the root, unpacked
boot        kernel, device trees, and what firmware wants
==========  =============================================================================================

Overlays, users and hooks are Buildroot's part here, so the plan is finished with ``root``.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from wherry.build import contributions as contributing
from wherry.build import kconfig, kconfig_tree
from wherry.build.builder import BuilderName
from wherry.build.buildroot import output, remembering, staging, tree
from wherry.build.buildroot.bootfiles import fill_boot
from wherry.build.buildroot.defconfig import check_architecture
from wherry.build.buildroot.making import Make
from wherry.build.buildroot.options import Options, read_options
from wherry.build.buildroot.places import BOOT, BUILD, BUILDROOT, CONFIG, DEFCONFIG, FETCH, LAYERS, ROOT, Places
from wherry.build.layers import Layer
from wherry.build.steps import Plan, Step
from wherry.core.errors import InvalidInput, NotFound
from wherry.core.jsonio import canonical, loads, pretty

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.build.builder import Inputs
    from wherry.build.contributions import Contributions, Part
    from wherry.build.steps import Place

REVISION = "2"
"""Of what the steps do; another one, and nothing that was kept counts any more."""
REMEMBERED = ".wherry"
"""The folder in a workspace for what is remembered of its inputs."""
CONFIG_FILE = "config"
REPORT_FILE = "untaken.json"
WARNINGS_FILE = "warnings.json"
PACKAGES_FILE = "packages.txt"
BASE = "base"
"""The first word of the names of layers before all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildrootBuilder:
    """Builds with Buildroot."""

    name: BuilderName = BuilderName.BUILDROOT
    places: Places = field(default_factory=Places)

    def plan(self, inputs: Inputs) -> Plan:
        """Returns the steps that make the host.

        Raises:
            InvalidInput: layers or options do not fit; says which.
            NotFound: there is no such tree of Buildroot.
            Unsupported: it has no way to build for this architecture.
        """
        return Build.of(inputs, self.places).plan()


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A host to be built, and its steps."""

    inputs: Inputs
    options: Options
    places: Places
    chain: tuple[Layer, ...]
    contributions: Contributions
    staged: staging.Staging
    tree_digest: str
    """The digest of the tree of Buildroot."""

    @classmethod
    def of(cls, inputs: Inputs, places: Places | None = None) -> Build:
        """Returns the build that inputs come to.

        Raises:
            InvalidInput: layers or options do not fit; says which.
            NotFound: there is no such tree of Buildroot.
            Unsupported: no way to build for this architecture.
        """
        places = places or Places()
        options = read_options(inputs.options, workspace=inputs.workspace)
        chain = (*base_layers(options), *inputs.contributions.chain)
        contributions = contributing.gather(chain) if options.base else inputs.contributions
        staged = staging.plan(chain, contributions, inputs.architecture, places, options, name=inputs.name)
        return cls(
            inputs=inputs,
            options=options,
            places=places,
            chain=chain,
            contributions=contributions,
            staged=staged,
            tree_digest=tree.digest(options.path, inputs.workspace / REMEMBERED),
        )

    @property
    def make(self) -> Make:
        """How Buildroot is called."""
        externals = [self.places.named(part.layer) / part.path.name for part in self.contributions.externals]
        return Make(
            places=self.places,
            options=self.options,
            externals=(*externals, self.places.external),
            offline=self.inputs.offline,
        )

    @property
    def target(self) -> str:
        """What is made."""
        return self.options.target or self.contributions.build_target or "all"

    def plan(self) -> Plan:
        """Returns its steps."""
        texts = hashlib.sha256(canonical(dict(self.staged.texts))).hexdigest()
        revision = {"revision": REVISION}
        before = (BUILDROOT, LAYERS, CONFIG)
        return Plan(
            steps=(
                Step(
                    name=BUILDROOT,
                    what="take the tree of Buildroot",
                    work=self.take_tree,
                    inputs={"tree": self.tree_digest},
                ),
                Step(
                    name=LAYERS,
                    what="put the layers together",
                    work=self.take_layers,
                    inputs={**revision, "layers": contributing.digest(self.chain), "texts": texts},
                ),
                Step(
                    name=CONFIG,
                    what="configure Buildroot",
                    work=self.configure,
                    inputs={**revision, "architecture": self.inputs.architecture.name},
                    needs=(BUILDROOT, LAYERS),
                ),
                Step(
                    name=FETCH,
                    what="look for sources" if self.inputs.offline else "fetch sources",
                    work=self.fetch,
                    inputs=revision,
                    needs=before,
                    network=not self.inputs.offline,
                    kept=False,  # what it makes is in the folder of downloads, which others clean
                ),
                Step(
                    name=BUILD,
                    what="build with Buildroot",
                    work=self.build,
                    inputs={**revision, "target": self.target, "epoch": str(self.inputs.epoch)},
                    needs=(*before, FETCH),
                ),
                Step(
                    name=ROOT,
                    what="unpack the root",
                    work=unpack_root,
                    inputs=revision,
                    needs=(BUILD,),
                    makes_roots=True,
                ),
                Step(
                    name=BOOT,
                    what="collect what the board boots",
                    work=self.collect_boot,
                    inputs={**revision, "initramfs": str(self.options.initramfs)},
                    needs=(BUILD,),
                ),
            ),
            root=ROOT,
            boot=BOOT,
            finished=True,
        )

    def take_tree(self, place: Place) -> None:
        """Copies the tree of Buildroot."""
        place.output.rmdir()
        staging.copy_tree(self.options.path, place.output, without=tree.USED)

    def take_layers(self, place: Place) -> None:
        """Copies the layers, and writes what is made of them."""
        staging.put(self.staged, place.output)
        for line in self.staged.defconfig.notes:
            place.say(f"note: {line}")

    def configure(self, place: Place) -> None:
        """Has Buildroot complete the configuration, and tells what did not take.

        Raises:
            ToolError: Buildroot cannot read it, or a layer's external tree.
            InvalidInput: it is for another architecture.
        """
        of = self._configured_of(place)
        if remembering.recall(place.kept, of, place.output):
            place.say("nothing that the configuration is made of has changed")
            for line in loads((place.output / WARNINGS_FILE).read_bytes(), where=WARNINGS_FILE):
                place.warn(line)
            return
        folder = self.places.top / "scratch" / "output"
        arguments = self.make.args(PurePath(DEFCONFIG).name, output=folder)
        place.run(arguments, env=self.make.environment())
        made = place.scratch / "output" / ".config"
        config = kconfig.read(made)
        check_architecture(self.inputs.architecture, (config.get("BR2_ARCH") or "").strip('"'))
        text = without_headline(made.read_text(encoding="utf-8", errors="surrogateescape"))
        (place.output / CONFIG_FILE).write_text(text, encoding="utf-8", errors="surrogateescape")
        untaken = kconfig.compare(self.staged.defconfig.asked, config)
        untaken = kconfig_tree.explained(place, self._kconfig(place), made, untaken)
        document = [item.as_json() for item in untaken]
        (place.output / REPORT_FILE).write_text(pretty(document) + "\n", encoding="utf-8")
        warnings = [f"did not take: {item.text(self.staged.defconfig.asked)}" for item in untaken]
        (place.output / WARNINGS_FILE).write_text(pretty(warnings) + "\n", encoding="utf-8")
        for line in warnings:
            place.warn(line)
        remembering.remember(
            place.kept, of, [place.output / name for name in (CONFIG_FILE, REPORT_FILE, WARNINGS_FILE)]
        )

    def _configured_of(self, place: Place) -> str:
        texts = self.staged.texts
        parts = [REVISION, self.tree_digest, self.inputs.architecture.name, texts["parts.json"], texts["asked.json"]]
        parts += [texts[f"external/{DEFCONFIG}"], place.read(["gcc", "-dumpfullversion"])]
        return hashlib.sha256(canonical(parts)).hexdigest()

    def _kconfig(self, place: Place) -> kconfig_tree.Tree:
        source = place.inputs[BUILDROOT]
        compiler = place.read(["gcc", "-dumpversion"]).partition(".")[0].strip()
        files = kconfig_tree.buildroot(
            source,
            output=place.scratch / "output",
            base=place.scratch / "output",
            version=tree.version_of(source),
            host_arch=os.uname().machine,
            gcc_version=compiler,
        )
        paths = staging.external_names(self.contributions)
        own = {f"BR2_EXTERNAL_{name}_PATH": str(self._external(part)) for name, part in paths.items()}
        own[f"BR2_EXTERNAL_{staging.OWN_EXTERNAL}_PATH"] = str(self.places.external)
        return replace(files, environment={**files.environment, **own})

    def _external(self, part: Part) -> Path:
        return self.places.named(part.layer) / part.path.name

    def fetch(self, place: Place) -> None:
        """Fetches the sources; offline it fails where one is missing.

        Raises:
            ToolError: one cannot be had; says of which package, and whose it is.
        """
        sources = self.options.downloads or place.downloads / BUILDROOT
        sources.mkdir(parents=True, exist_ok=True)
        of = output.state_of(place, self.tree_digest)
        if remembering.still_there(place.kept, sources) and remembering.recall(place.kept, of, place.output):
            place.say("all sources are there, as they were")
            return
        output.begin(place, tree=self.tree_digest, incremental=True)
        # the list costs nothing in the same call: it is Buildroot's Makefiles that take long to read
        watch = self.make.run(place, "source", "show-build-order", asked=self.staged.defconfig.asked, fetches=True)
        names = "".join(f"{name}\n" for name in dict.fromkeys(watch.named))
        (place.output / PACKAGES_FILE).write_text(names, encoding="utf-8")
        remembering.remember(place.kept, of, [place.output / PACKAGES_FILE])
        remembering.remember_files(place.kept, sources)

    def build(self, place: Place) -> None:
        """Builds, and takes from Buildroot's output folder what others need.

        Raises:
            ToolError: something failed; says which package or hook, and whose it is.
        """
        output.begin(place, tree=self.tree_digest, incremental=self.options.incremental)
        total = len((place.inputs[FETCH] / PACKAGES_FILE).read_text(encoding="utf-8").split())
        self.make.run(place, *self.target.split(), asked=self.staged.defconfig.asked, total=total or None)
        output.take(place, self.staged.defconfig.tools)

    def collect_boot(self, place: Place) -> None:
        """Collects what the board boots."""
        built = place.inputs[BUILD]
        config = kconfig.read(built / CONFIG_FILE)
        fill_boot(built / output.IMAGES, place.output / "boot", config, initramfs=self.options.initramfs)


def base_layers(options: Options) -> list[Layer]:
    """Returns the layers that come before all others.

    Raises:
        InvalidInput: a folder's name is no word of a layer's name.
    """
    found: list[Layer] = []
    for path in options.base:
        layer = Layer(name=f"{BASE}/{path.name}", path=path)
        if any(char.isspace() for char in path.name) or any(layer.name == other.name for other in found):
            raise InvalidInput(
                "two of them have one name, or a space in it", where=f"host.yaml: buildroot.base: {path}"
            )
        found.append(layer)
    return found


def without_headline(text: str) -> str:
    """Returns a ``.config`` without the comment at its head, which has the version of a checkout in it."""
    lines = text.splitlines(keepends=True)
    while lines and lines[0].startswith("#") and not lines[0].rstrip().endswith("is not set"):
        del lines[0]
    return "".join(lines)


def unpack_root(place: Place) -> None:
    """Unpacks the root that Buildroot made, with its owners; no device nodes, which the kernel makes.

    Raises:
        NotFound: it made none.
    """
    tar = place.inputs[BUILD] / output.IMAGES / "rootfs.tar"
    if not tar.is_file():
        raise NotFound(
            "Buildroot made no rootfs.tar", where=tar, hint="does a layer, or buildroot.target, make something else?"
        )
    root = place.output / "root"
    root.mkdir()
    words = ["tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=./dev/*", "-xpf", str(tar)]
    place.run([*words, "-C", str(root)])
