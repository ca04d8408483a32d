"""The content-addressed repository, in OSTree's own format."""

from wherry.store.objects import Mode as Mode
from wherry.store.objects import ObjectType as ObjectType
from wherry.store.repository import Repository as Repository
