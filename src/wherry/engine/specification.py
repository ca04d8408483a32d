"""A container's whole specification for the runtime: its own request, what it joins, and its compiled filter."""

from __future__ import annotations

from wherry.engine import bundle, joining
from wherry.engine.filters import filter_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.prepare import Prepared
    from wherry.engine.spec import ContainerConfig
    from wherry.engine.state import Paths
    from wherry.runtime.spec import Spec


def specification(paths: Paths, config: ContainerConfig, prepared: Prepared) -> Spec:
    """Returns the specification; unlike `bundle.build_spec` this looks at other containers and at files.

    Raises:
        Conflict: a container whose namespaces it joins does not run.
    """
    joined = joining.namespaces(paths, config)
    return bundle.build_spec(config, prepared, joined, filter_code=filter_of(paths, config))
