"""Certificates in settings: read when the configuration is, so that a bad file is a problem with a line number.

TLS 1.2 and later; the ciphers are the library's choice.
"""

import ssl

from gatekeeper.config.schema import Tls, UpstreamTls


class TlsProblem(Exception):
    """A file of certificates or keys that cannot be used; `setting` is the part of the section that names it."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


def listener_context(tls: Tls) -> ssl.SSLContext:
    """The context of our own listener; it speaks HTTP/1.1 alone.  Raises TlsProblem."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_chain(context, tls.cert, tls.key)
    return context


def upstream_context(tls: UpstreamTls | None) -> ssl.SSLContext:
    """The context for an https upstream, whose name and certificate are checked.  Raises TlsProblem."""
    tls = tls or UpstreamTls()
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as exc:
        raise TlsProblem("ca", f"cannot use {tls.ca}: {_cause_of(exc)}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.key is not None and tls.cert is None:
        raise TlsProblem("key", "a key without its certificate: set cert, too")
    if tls.cert is not None:
        _load_chain(context, tls.cert, tls.key)
    return context


def _load_chain(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """Load a certificate chain and its key, which may stand in the same file."""
    for setting, file in (("cert", cert), ("key", key)):
        if file is not None:
            try:
                with open(file, "rb"):
                    pass
            except OSError as exc:
                raise TlsProblem(setting, f"cannot read {file}: {exc.strerror}") from exc
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ssl.SSLError) as exc:
        raise TlsProblem("cert", f"cannot use {cert} with its key: {_cause_of(exc)}") from exc


def _no_password() -> str:
    """What OpenSSL gets instead of asking on the terminal for the password of an encrypted key."""
    return ""


def _cause_of(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return exc.reason or "no PEM certificate or key, or an encrypted one"
    return getattr(exc, "strerror", None) or "no such file"
