"""TLS contexts, each made once: reading a system's certificates takes 60 ms and holds threads up.

A context is renewed when one of its files has changed. Meanwhile, and while what they hold is not
usable, connections go on with the one before.
"""

import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as StoreTimeout

from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.contained_logger import get_logger

logger = get_logger("analytics_admin.stores")

_UNKNOWN_SIGNER = Message(_("no authority that the site trusts has signed the store's certificate"))
_OTHER_NAME = Message(_("the store's certificate is for another host name"))
_BY_VERIFY_CODE = {
    9: Message(_("the store's certificate is not valid yet")),
    10: Message(_("the store's certificate has expired")),
    23: Message(_("the store's certificate is revoked")),
    **dict.fromkeys((18, 19, 20, 21), _UNKNOWN_SIGNER),
    **dict.fromkeys((62, 64), _OTHER_NAME),
}
"""By OpenSSL's X509_V_ERR numbers."""
_NOT_TRUSTED = Message(_("the store does not trust the site's certificate"))
_NO_CERTIFICATE = Message(_("the store demands a certificate of the site"))
_BY_REASON = {
    "CERTIFICATE_REQUIRED": _NO_CERTIFICATE,
    "HANDSHAKE_FAILURE": _NO_CERTIFICATE,
    "UNKNOWN_CA": _NOT_TRUSTED,
    "BAD_CERTIFICATE": _NOT_TRUSTED,
    "CERTIFICATE_EXPIRED": _NOT_TRUSTED,
    "CERTIFICATE_UNKNOWN": _NOT_TRUSTED,
    "WRONG_VERSION_NUMBER": Message(_("the store does not speak TLS at this address")),
    "RECORD_LAYER_FAILURE": Message(_("the store does not speak TLS at this address")),
}
"""By parts of OpenSSL's names of reasons."""
_ENDED = Message(
    _("the store ended the TLS connection: it is gone, or demands a certificate of the site")
)
"""TLS 1.3 refuses a client after the handshake, and what it says of that is mostly lost."""
_OTHER = Message(_("the TLS connection to the store failed"))
_NO_HANDSHAKE = Message(
    _("the store did not answer the TLS handshake in time; does it speak TLS at this address?")
)
_FILES_UNUSABLE = Message(_("a certificate or key file for the store cannot be used"))
_MAX_CAUSES = 8

Stamp = tuple[tuple[int, int, int] | None, ...]

_PARAMETERS = (
    *("keyfile", "certfile", "certificate_password", "ca_certs", "ca_path", "ca_data"),
    *("cert_reqs", "check_hostname", "ssl_min_version", "ssl_ciphers"),
    *("ssl_include_verify_flags", "ssl_exclude_verify_flags"),
)
_FILES = ("keyfile", "certfile", "ca_certs", "ca_path")


class TlsFilesUnusable(RedisError):
    """A certificate or key file cannot be read, or does not hold what it should."""


class HandshakeTimeout(StoreTimeout):
    """The server takes connections, but does not answer as one with TLS."""


@dataclass(slots=True)
class _Kept:
    """A context, and the state of its files when it was made."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    pid: int = field(default_factory=os.getpid)
    context: ssl.SSLContext | None = None
    stamp: Stamp | None = None


_kept: dict[tuple[str, ...], _Kept] = {}


def shared_context(connection: Any) -> ssl.SSLContext:
    """Return the context for a connection's parameters.

    Raises:
        TlsFilesUnusable
    """
    key = tuple([repr(getattr(connection, name)) for name in _PARAMETERS])
    kept = _kept.get(key)
    if kept is None or kept.pid != os.getpid():  # a forked child may have inherited a locked one
        kept = _kept[key] = _Kept() if kept is None else _Kept(context=kept.context)
    stamp = _stamp(connection)
    if kept.context is not None and kept.stamp == stamp:
        return kept.context
    if (before := kept.context) is not None and not kept.lock.acquire(blocking=False):
        return before  # somebody renews it
    if before is None:
        kept.lock.acquire()
    try:
        if kept.context is None or kept.stamp != stamp:
            return _renew(kept, stamp, connection)
        return kept.context
    finally:
        kept.lock.release()


def prepare_tls(connection: Any) -> None:
    """Make the context of such connections now, before a caller waits for one.

    Raises:
        TlsFilesUnusable
    """
    shared_context(connection)


def explain_tls(error: BaseException) -> Message | None:
    """Return a message about what TLS has to do with the error; None: nothing."""
    cause: BaseException | None = error
    for _place in range(_MAX_CAUSES):
        for kind, explain in _EXPLANATIONS.items():
            if isinstance(cause, kind):
                return explain(cause)
        if cause is not None:
            cause = cause.__cause__ or cause.__context__
    return None


def _explain_refusal(error: Any) -> Message:
    reason = str(error.reason)
    return next((said for name, said in _BY_REASON.items() if name in reason), _OTHER)


_EXPLANATIONS: dict[type[BaseException], Callable[[Any], Message]] = {
    TlsFilesUnusable: lambda error: _FILES_UNUSABLE,
    HandshakeTimeout: lambda error: _NO_HANDSHAKE,
    ssl.SSLCertVerificationError: lambda error: _BY_VERIFY_CODE.get(error.verify_code, _OTHER),
    ssl.SSLEOFError: lambda error: _ENDED,
    ssl.SSLError: _explain_refusal,
}


def _renew(kept: _Kept, stamp: Stamp, connection: Any) -> ssl.SSLContext:
    context = kept.context
    try:
        context = _new_context(connection)
    except OSError as error:
        if context is None:
            raise TlsFilesUnusable from error
        # Half of a renewal may be written. The next change of the files is another try.
        logger.error(
            "TLS files of a store have changed and are unusable (%s): what they held stays in use",
            type(error).__name__,
        )
    kept.context, kept.stamp = context, stamp
    return context


def _stamp(connection: Any) -> Stamp:
    return tuple([_stamp_of(getattr(connection, name)) for name in _FILES])


def _stamp_of(path: Any) -> tuple[int, int, int] | None:
    if not path:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _new_context(connection: Any) -> ssl.SSLContext:
    """Return a context that trusts and verifies what the driver's own would."""
    context = ssl.create_default_context()
    context.check_hostname = connection.check_hostname
    context.verify_mode = connection.cert_reqs
    for flag in connection.ssl_include_verify_flags or ():
        context.verify_flags |= flag
    for flag in connection.ssl_exclude_verify_flags or ():
        context.verify_flags &= ~flag
    if connection.certfile or connection.keyfile:
        context.load_cert_chain(
            certfile=connection.certfile or connection.keyfile,
            keyfile=connection.keyfile,
            password=connection.certificate_password,
        )
    if connection.ca_certs or connection.ca_path or connection.ca_data:
        context.load_verify_locations(
            cafile=connection.ca_certs, capath=connection.ca_path, cadata=connection.ca_data
        )
    if connection.ssl_min_version is not None:
        context.minimum_version = connection.ssl_min_version
    if connection.ssl_ciphers:
        context.set_ciphers(connection.ssl_ciphers)
    return context
