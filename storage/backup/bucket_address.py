"""Where backups in object storage lie: an s3:// URL and its parts, and what its errors mean. Pure; knows no network.

    s3://BUCKET/PREFIX?endpoint_override=HOST:PORT&region=REGION&scheme=http      everything after the bucket may be left out

endpoint_override names a store other than Amazon's, also as http://HOST:PORT. Credentials never stand in it: a URL is shown in lists, in the log and in
`_system`. They come from where every AWS program takes them.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import BadRequest

SCHEME = "s3://"
URL_CHARS_MAX = 2_000
OPTIONS = ("endpoint_override", "region", "scheme")
CREDENTIALS = "credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role) of the node"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]\Z")
_AWS_ERROR = re.compile(r"AWS Error (\w+)")

# What the store calls it: (errno for whoever reacts to it, what to do).
_MEANT = {
    "ACCESS_DENIED": (errno.EACCES, "give these credentials GetObject, PutObject, DeleteObject and ListBucket on it"),
    "INVALID_ACCESS_KEY_ID": (errno.EACCES, CREDENTIALS),
    "SIGNATURE_DOES_NOT_MATCH": (errno.EACCES, f"the secret is wrong; {CREDENTIALS}"),
    "INVALID_CLIENT_TOKEN_ID": (errno.EACCES, CREDENTIALS),
    "MISSING_AUTHENTICATION_TOKEN": (errno.EACCES, CREDENTIALS),
    "INVALID_SIGNATURE": (errno.EACCES, CREDENTIALS),
    "UNRECOGNIZED_CLIENT": (errno.EACCES, CREDENTIALS),
    "REQUEST_EXPIRED": (errno.EACCES, "the clock of this machine and the store's differ, or the credentials have expired"),
    "REQUEST_TIME_TOO_SKEWED": (errno.EACCES, "set the clock of this machine"),
    "NO_SUCH_BUCKET": (errno.ENXIO, "create the bucket, or correct its name"),
    "NETWORK_CONNECTION": (errno.EHOSTUNREACH, "check that the endpoint is up and reachable from this node"),
    "REQUEST_TIMEOUT": (errno.ETIMEDOUT, "check that the endpoint is up and reachable from this node"),
    "SLOW_DOWN": (errno.EIO, "the store asks for fewer requests; it is tried again"),
    "THROTTLING": (errno.EIO, "the store asks for fewer requests; it is tried again"),
}
_OTHERWISE = (errno.EIO, "look at the store's own log")


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """prefix: without signs at its ends, "" for the whole bucket; endpoint "" and region "": what AWS programs take by themselves."""

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    scheme: str = "https"
    region: str = ""

    def key(self, path: str) -> str:
        """`bucket/key` of a path below it."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        assert ".." not in parts, "paths on a shelf lead down"
        return "/".join([self.bucket, *([self.prefix] if self.prefix else []), *parts])

    def shown(self, path: str = "") -> str:
        """For people: the object, without how it is reached."""
        return f"{SCHEME}{self.key(path)}"


def is_bucket(path: str) -> bool:
    return path.lower().startswith(SCHEME)


def parse(url: str) -> BucketAddress:
    """Raises BadRequest naming the rule."""
    if len(url) > URL_CHARS_MAX or not url.isprintable():
        raise BadRequest(f"an s3:// URL has at most {URL_CHARS_MAX} printable characters")
    try:
        found = urlsplit(url)
        options = parse_qsl(found.query, keep_blank_values=True, strict_parsing=bool(found.query))
    except ValueError as error:
        raise BadRequest("this s3:// URL cannot be read: s3://BUCKET/PREFIX?endpoint_override=HOST:PORT&region=REGION") from error
    if "@" in found.netloc:
        raise BadRequest(f"an s3:// URL holds no credentials, since it is shown and logged: {CREDENTIALS}")
    given = dict(options)
    for name in given:
        if name not in OPTIONS:  # its value may be a secret
            raise BadRequest(f"s3:// URLs have no option {name[:40]!r}, only {', '.join(OPTIONS)}; {CREDENTIALS}")
    if len(given) != len(options) or found.fragment:
        raise BadRequest("an s3:// URL names each option once, and has no '#'")
    if not _BUCKET.match(found.netloc):
        raise BadRequest(f"{found.netloc[:80]!r} is no bucket's name: 3 to 63 letters, digits, '.', '_' or '-'")
    prefix = unquote(found.path).strip("/")
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        raise BadRequest(f"the prefix {prefix[:80]!r} has a part that is empty, '.' or '..'")
    endpoint, scheme = given.get("endpoint_override", ""), given.get("scheme", "https")
    for named in ("http", "https"):
        if endpoint.startswith(f"{named}://"):
            endpoint, scheme = endpoint[len(named) + 3 :].rstrip("/"), named
    if scheme not in ("http", "https") or "@" in endpoint or "/" in endpoint:
        raise BadRequest("endpoint_override is HOST:PORT, or http://HOST:PORT; scheme is http or https")
    return BucketAddress(found.netloc, prefix, endpoint, scheme, given.get("region", ""))


def meaning(message: str) -> tuple[int, str, str]:
    """(errno, what the store called it, what to do) of an error's text."""
    found = _AWS_ERROR.search(message)
    called = found[1] if found is not None else ""
    if called == "UNKNOWN":  # with the number of the answer behind it
        if "HTTP status 403" in message or "HTTP status 401" in message:
            called = "ACCESS_DENIED"
        elif "HTTP status 404" in message:
            called = "NO_SUCH_BUCKET"
    number, step = _MEANT.get(called, _OTHERWISE)
    return number, called, step
