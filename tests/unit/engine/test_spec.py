"""From a request and an image's settings to the container that runs."""

from __future__ import annotations

import pytest

from wherry.core.errors import InvalidInput
from wherry.core.value import replace
from wherry.engine.spec import (
    DEFAULT_PATH,
    BareSettings,
    ContainerConfig,
    ContainerSpec,
    LogLimits,
    check,
    check_cpus,
    health_argv,
    normal_path,
    resolve,
)
from wherry.spec.codec import decode, encode
from wherry.spec.container import (
    Healthcheck,
    Mount,
    MountType,
    PortMapping,
    Resources,
    RestartName,
    RestartPolicy,
)

ID = "ab" * 32
IMAGE = BareSettings(
    entrypoint=("/entry",),
    cmd=("default",),
    env=("PATH=/bin", "A=image", "B=image"),
    user="app",
    working_dir="/srv",
    volumes=("/data",),
    labels={"from": "image", "both": "image"},
    stop_signal="SIGQUIT",
    healthcheck=Healthcheck(test=("CMD", "/check"), interval_ms=1000),
)


def joined(spec: ContainerSpec, settings: BareSettings = IMAGE) -> ContainerConfig:
    return resolve(spec, settings, container_id=ID, name="n", created_s=1.5, image="i", commit="c")


@pytest.mark.parametrize(
    ("args", "entrypoint", "argv"),
    [
        (None, None, ("/entry", "default")),
        (("x", "y"), None, ("/entry", "x", "y")),
        (None, ("/other",), ("/other",)),
        (("x",), ("/other",), ("/other", "x")),
        ((), None, ("/entry",)),
        (("x",), (), ("x",)),
    ],
)
def test_command(args: tuple[str, ...] | None, entrypoint: tuple[str, ...] | None, argv: tuple[str, ...]) -> None:
    assert joined(ContainerSpec(image="i", args=args, entrypoint=entrypoint)).argv == argv


def test_no_command() -> None:
    with pytest.raises(InvalidInput, match="no command"):
        joined(ContainerSpec(image="i"), BareSettings())


def test_image_settings_and_their_replacement() -> None:
    config = joined(ContainerSpec(image="i", env={"B": "own", "C": "own"}, labels={"both": "own"}))
    assert config.env == ("PATH=/bin", f"HOSTNAME={ID[:12]}", "A=image", "B=own", "C=own")
    assert (config.user, config.working_dir, config.stop_signal) == ("app", "/srv", "SIGQUIT")
    assert config.labels == {"from": "image", "both": "own"}
    own = joined(ContainerSpec(image="i", user="", working_dir="/a/../b/", stop_signal="SIGHUP", hostname="h"))
    assert (own.user, own.working_dir, own.stop_signal, own.hostname) == ("", "/b", "SIGHUP", "h")


def test_defaults_without_an_image() -> None:
    config = joined(ContainerSpec(rootfs="/r", args=("a",), tty=True, network="host"), BareSettings())
    assert config.env == (f"PATH={DEFAULT_PATH}", "TERM=xterm")
    assert (config.user, config.working_dir, config.stop_signal, config.hostname) == ("", "/", "SIGTERM", "")


def test_volumes_of_the_image() -> None:
    config = joined(ContainerSpec(image="i"))
    assert config.mounts == (Mount(type=MountType.VOLUME, source=f"anon-{ID[:16]}-0", target="/data"),)
    assert config.anonymous_volumes == (f"anon-{ID[:16]}-0",)
    own = Mount(type=MountType.BIND, source="/here", target="/data/")
    assert joined(ContainerSpec(image="i", mounts=(own,))).mounts == (own,)


def test_health_check() -> None:
    found = joined(ContainerSpec(image="i")).healthcheck
    assert found is not None
    assert health_argv(found) == ("/check",)
    times = joined(ContainerSpec(image="i", healthcheck=Healthcheck(test=(), interval_ms=5))).healthcheck
    assert times == Healthcheck(test=("CMD", "/check"), interval_ms=5)
    shell = joined(ContainerSpec(image="i", healthcheck=Healthcheck(test=("CMD-SHELL", "a | b")))).healthcheck
    assert shell is not None
    assert health_argv(shell) == ("/bin/sh", "-c", "a | b")
    assert joined(ContainerSpec(image="i", healthcheck=Healthcheck(test=("NONE",)))).healthcheck is None
    for wrong in (Healthcheck(test=("CMD",)), Healthcheck(test=("x", "y")), Healthcheck(test=("CMD", "a"), retries=0)):
        with pytest.raises(InvalidInput):
            joined(ContainerSpec(image="i", healthcheck=wrong))


GOOD = ContainerSpec(image="i")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": ""}, "either an image"),
        ({"rootfs": "/r"}, "either an image"),
        ({"name": "a b"}, "container name"),
        ({"name": "../x"}, "container name"),
        ({"aliases": ("a b",)}, "alias"),
        ({"hostname": "a_b"}, "host name"),
        ({"hostname": "a" * 64}, "host name"),
        ({"env": {"A=": "x"}}, "environment variable"),
        ({"env": {"": "x"}}, "environment variable"),
        ({"ports": (PortMapping(container_port=1),), "network": "none"}, "cannot be published"),
        ({"ports": (PortMapping(container_port=0),)}, "not a port"),
        ({"ports": (PortMapping(container_port=1, host_port=70000),)}, "not a port"),
        ({"ports": (PortMapping(container_port=1, host_port=5), PortMapping(container_port=2, host_port=5))}, "twice"),
        ({"mounts": (Mount(type=MountType.TMPFS, target="rel"),)}, "mount point"),
        ({"mounts": (Mount(type=MountType.TMPFS, target="/a/.."),)}, "mount point"),
        ({"mounts": (Mount(type=MountType.BIND, source="rel", target="/a"),)}, "absolute"),
        ({"mounts": (Mount(type=MountType.VOLUME, source="a/b", target="/a"),)}, "volume name"),
        (
            {"mounts": (Mount(type=MountType.VOLUME, source="v", target="/a", overlaid=True, read_only=True),)},
            "no other",
        ),
        ({"mounts": (Mount(type=MountType.VOLUME, target="/a", subpath="x"),)}, "volume with a name"),
        ({"mounts": (Mount(type=MountType.BIND, source="/x", target="/a", subpath="x"),)}, "volume with a name"),
        ({"mounts": (Mount(type=MountType.VOLUME, source="v", target="/a", subpath="x/../y"),)}, r"without '\.\.'"),
        ({"mounts": (Mount(type=MountType.TMPFS, target="/a"), Mount(type=MountType.TMPFS, target="//a/"))}, "two"),
        ({"resources": Resources(memory_bytes=1024)}, "too small"),
        ({"resources": Resources(milli_cpus=1)}, "at least"),
        ({"rm": True, "restart": RestartPolicy(name=RestartName.ALWAYS)}, "cannot be restarted"),
        ({"log": LogLimits(max_bytes=1)}, "log limits"),
    ],
)
def test_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        check(replace(GOOD, **changes))


def test_no_more_cpus_than_there_are() -> None:
    check_cpus(Resources(milli_cpus=2000), 2)
    check_cpus(Resources(), 2)
    with pytest.raises(InvalidInput, match=r"2\.5 CPUs are more than this machine has; give 0\.01 to 2"):
        check_cpus(Resources(milli_cpus=2500), 2)


def test_config_survives_its_file() -> None:
    spec = ContainerSpec(
        image="i",
        args=("a",),
        ports=(PortMapping(container_port=80, host_port=8080, protocol="udp"),),
        mounts=(Mount(type=MountType.BIND, source="/a", target="/b", read_only=True),),
        resources=Resources(memory_bytes=1 << 26),
        restart=RestartPolicy(name=RestartName.ON_FAILURE, max_retries=3),
        layers=("/l",),
        log=LogLimits(files=1),
    )
    check(spec)
    config = joined(spec)
    assert decode(ContainerConfig, encode(config)) == config


@pytest.mark.parametrize(
    ("path", "normal"), [("/", "/"), ("//a/./b/", "/a/b"), ("/a/../../b", "/b"), ("/..", "/"), ("/a//", "/a")]
)
def test_normal_path(path: str, normal: str) -> None:
    assert normal_path(path) == normal
