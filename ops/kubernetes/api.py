"""The few calls of the Kubernetes API that moving the primary Service takes: one Service, its Endpoints, the nodes' pods.

From inside a pod, by the pod's service account (k8s/base/access.yaml says what it may do); TWINLOG_KUBE_API names another way there, such as
http://127.0.0.1:8001 of `kubectl proxy`. Knows HTTP and the shape of the API's objects; decides nothing. Errors are Refusals that name the call.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.exit_codes import ExitCode
from ops.refusal import Refusal

from .standing import APP, APP_KEY, Standing, read_standing
from .verdicts import Pod

if TYPE_CHECKING:
    import httpx

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CALL_S = 5.0
ANSWER_PODS_MAX = 64
PRIMARY_SERVICE = "twinlog-primary"
NODES_SELECTOR = f"{APP_KEY}={APP},app.kubernetes.io/component=node"
CONFLICT = 409


class Conflict(Exception):
    """The Service has changed since it was read: read it again and decide anew."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API server is and how one gets in."""

    url: str
    namespace: str
    account: Path | None  # None: whoever is at the URL lets us in, as kubectl proxy does


def access_from(environ: Mapping[str, str], account: Path = ACCOUNT) -> Access:
    """Inside a pod by itself; outside by TWINLOG_KUBE_API and TWINLOG_KUBE_NAMESPACE."""
    if url := environ.get("TWINLOG_KUBE_API"):
        return Access(url.rstrip("/"), environ.get("TWINLOG_KUBE_NAMESPACE", "twinlog"), None)
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (account / "token").is_file():
        raise Refusal(
            "this runs inside the cluster: kubectl exec twinlog-0 -- twinlog kubernetes ... (or any other of its pods); from a machine "
            "that reaches the pods by their names, run `kubectl proxy` and set TWINLOG_KUBE_API=http://127.0.0.1:8001 and TWINLOG_KUBE_NAMESPACE", ExitCode.USAGE,
        )
    bracketed = f"[{host}]" if ":" in host else host
    return Access(f"https://{bracketed}:{port}", (account / "namespace").read_text().strip(), account)


class KubeApi:
    """One namespace. Made by `open_api`."""

    def __init__(self, client: httpx.AsyncClient, access: Access) -> None:
        self._client = client
        self._access = access

    async def standing(self) -> Standing:
        return read_standing(await self._call("GET", f"services/{PRIMARY_SERVICE}"))

    async def change(self, patch: dict[str, Any]) -> Standing:
        """Raises Conflict when the Service is not any more what the patch was made for."""
        return read_standing(await self._call("PATCH", f"services/{PRIMARY_SERVICE}", patch))

    async def behind_service(self) -> frozenset[str]:
        """The pods that get what is sent to the Service; a pod that is not ready gets nothing."""
        found = await self._call("GET", f"endpoints/{PRIMARY_SERVICE}", missing={})
        addresses = [address for subset in found.get("subsets") or () for address in subset.get("addresses") or ()]
        return frozenset((address.get("targetRef") or {}).get("name", address["ip"]) for address in addresses)

    async def pods(self) -> dict[str, Pod]:
        """The nodes' pods by name."""
        found = await self._call("GET", "pods", params={"labelSelector": NODES_SELECTOR, "limit": str(ANSWER_PODS_MAX)})
        pods = [_read_pod(item) for item in found.get("items", ())]
        return {pod.name: pod for pod in pods}

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, params: dict[str, str] | None = None, missing: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        import httpx  # late: --help must not pay for it

        url = f"{self._access.url}/api/v1/namespaces/{self._access.namespace}/{path}"
        headers = {"content-type": "application/merge-patch+json"} if body is not None else {}
        if self._access.account is not None:  # read each time: Kubernetes renews it
            headers["authorization"] = f"Bearer {(self._access.account / 'token').read_text().strip()}"
        try:
            answer = await self._client.request(method, url, json=body, params=params, headers=headers)
        except httpx.HTTPError as error:
            raise Refusal(f"the Kubernetes API does not answer ({method} {path}): {error or type(error).__name__}", ExitCode.UNREACHABLE) from error
        if answer.status_code == CONFLICT:
            raise Conflict(path)
        if answer.status_code == 404 and missing is not None:
            return missing
        if answer.is_error:
            raise Refusal(f"the Kubernetes API refuses {method} {path} ({answer.status_code}): {_reason(answer)}")
        return answer.json()


@asynccontextmanager
async def open_api(access: Access, transport: httpx.AsyncBaseTransport | None = None) -> AsyncIterator[KubeApi]:
    """transport: in place of the network."""
    import httpx  # late: --help must not pay for it

    verify: ssl.SSLContext | bool = True
    if access.account is not None and transport is None:
        verify = ssl.create_default_context(cafile=str(access.account / "ca.crt"))
        verify.verify_flags &= ~ssl.VERIFY_X509_STRICT  # clusters' own authorities often lack the key identifiers that it asks for
    async with httpx.AsyncClient(verify=verify, timeout=CALL_S, transport=transport, trust_env=False) as client:
        yield KubeApi(client, access)


def default_access() -> Access:
    return access_from(os.environ)


def _read_pod(item: dict[str, Any]) -> Pod:
    conditions = {entry.get("type"): entry.get("status") for entry in (item.get("status") or {}).get("conditions") or ()}
    metadata = item["metadata"]
    return Pod(metadata["name"], conditions.get("Ready") == "True", bool(metadata.get("deletionTimestamp")))


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
