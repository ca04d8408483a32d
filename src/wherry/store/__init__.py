"""The content-addressed repository, in OSTree's own format."""

from wherry.store.format.objects import Mode as Mode
from wherry.store.format.objects import ObjectType as ObjectType
from wherry.store.repository import Repository as Repository
