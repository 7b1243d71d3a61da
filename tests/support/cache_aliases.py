"""What the tests of the clear share: aliases on one server, and what lies in them."""

from collections.abc import Iterable
from typing import Any

from django.core.cache import caches

from analytics_admin.caching.epochs import EpochRecord, decode_record, record_key
from tests.settings import STORE_FOLDER

STORE_URL = f"unix://{STORE_FOLDER}/store.sock"
SEARCH_DB = 11
OTHER_DB = 12


def redis_alias(
    prefix: str = "", *, url: str = STORE_URL, db: int = SEARCH_DB, **more: Any
) -> dict[str, Any]:
    """Return the CACHES entry of a django-redis alias; ``options`` joins its OPTIONS."""
    options = {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"}
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"{url}?db={db}",
        "KEY_PREFIX": prefix,
        "OPTIONS": options | more.pop("options", {}),
        **more,
    }


def use_caches(settings: Any, *, dedicated: bool = False, **aliases: dict[str, Any]) -> None:
    """Give the site these aliases; ``default`` and ``breakers`` lie elsewhere unless given."""
    settings.CACHES = {
        "default": redis_alias(db=OTHER_DB),
        "breakers": redis_alias("breakers", db=OTHER_DB),
        **aliases,
    }
    settings.ANALYTICS_ADMIN = {"SEARCH_CACHE_DEDICATED": dedicated}


def raw(alias: str = "search") -> Any:
    """Return a client of the alias' database that sees its keys as they are."""
    return caches[alias].client.get_client(write=True)


def keys_in(alias: str = "search") -> set[bytes]:
    """Return every key of the alias' database but the epoch record."""
    return set(raw(alias).keys("*")) - {record_key("search").encode()}


def fill(alias: str, names: Iterable[object]) -> None:
    caches[alias].set_many({str(name): "value" for name in names})


def record() -> EpochRecord | None:
    return decode_record(raw().get(record_key("search")))
