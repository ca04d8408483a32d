"""Names for containers that were given none: an adjective and a water bird."""

from __future__ import annotations

import os

from wherry.engine.state import name_holder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.state import Paths

_TRIES = 50

_FIRST_WORDS = (
    "able agile amber ample azure bold brave breezy bright brisk calm clear clever coastal cosy crisp dapper eager "
    "early easy fair fleet fond frosty gentle glad golden grand happy hardy hasty humble jolly keen kind light lively "
    "lucky lunar merry mild misty modest neat nimble noble northern placid plain polite proud quick quiet rapid ready "
    "rosy salty sandy serene sharp shiny silent silver simple sleek smooth snowy sober solar steady stout strong "
    "sunny swift tidal tidy vivid warm western windy wise witty young"
)
_SECOND_WORDS = (
    "albatross auk avocet bittern brant coot cormorant crane curlew dipper diver dotterel duck dunlin egret eider "
    "fulmar gadwall gannet godwit goldeneye goose grebe guillemot gull heron ibis jacana kingfisher kittiwake knot "
    "lapwing loon mallard merganser moorhen noddy osprey oystercatcher pelican petrel phalarope pintail plover pochard "
    "prion puffin rail razorbill redshank ruff sanderling sandpiper scaup scoter shag shearwater shelduck shoveler "
    "skimmer skua smew snipe spoonbill stilt stint stork swan tattler teal tern turnstone whimbrel wigeon willet"
)


def random_name() -> str:
    """Returns a name such as ``quiet_heron``; it may be taken already."""
    first, second = _FIRST_WORDS.split(), _SECOND_WORDS.split()
    left, right = os.urandom(2), os.urandom(2)
    return f"{first[int.from_bytes(left, 'big') % len(first)]}_{second[int.from_bytes(right, 'big') % len(second)]}"


def free_name(paths: Paths) -> str:
    """Returns a made-up name that no container has just now."""
    for _ in range(_TRIES):
        name = random_name()
        if name_holder(paths, name) is None:
            return name
    return f"{random_name()}_{os.urandom(3).hex()}"
