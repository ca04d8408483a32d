"""What looks beyond a container's config: its specification for the runtime, and those of further processes in it."""

from __future__ import annotations

from wherry.engine import bundle, joining
from wherry.engine.filters import filter_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.engine.prepare import Prepared
    from wherry.engine.spec import ContainerConfig
    from wherry.engine.state import Paths
    from wherry.runtime.spec import Process, Spec


def specification(paths: Paths, config: ContainerConfig, prepared: Prepared) -> Spec:
    """Returns the specification; unlike `bundle.build_spec` this looks at other containers and at files.

    Raises:
        Conflict: a container whose namespaces it joins does not run.
        NotFound: a secret is not there.
    """
    joined = joining.namespaces(paths, config)
    env = _secret_env(paths, config)
    return bundle.build_spec(config, prepared, joined, filter_code=filter_of(paths, config), env=env)


def further_process(
    paths: Paths, config: ContainerConfig, args: tuple[str, ...], *, env: tuple[str, ...] = (), **options: Any
) -> Process:
    """Returns a further process of a container, with the variables that are secrets; see `bundle.build_process`.

    Raises:
        NotFound: a secret is not there.
    """
    return bundle.build_process(config, args, env=(*_secret_env(paths, config), *env), **options)


def _secret_env(paths: Paths, config: ContainerConfig) -> tuple[str, ...]:
    if not config.spec.secret_env:
        return ()
    from wherry.engine import secrets

    return tuple(f"{key}={secrets.text(paths, name)}" for key, name in config.spec.secret_env.items())
