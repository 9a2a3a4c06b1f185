"""The rendered manifests, once for all tests of them; skipped, saying why, where nothing can render them."""

from __future__ import annotations

import pytest

from .rendered import OVERLAYS, Rendered, copy_with_keys, kustomize, render


@pytest.fixture(scope="session")
def overlays(tmp_path_factory) -> dict[str, Rendered]:
    command = kustomize()
    if command is None:
        pytest.skip("there is neither a kubectl of version 1.21 or newer nor kustomize here")
    tree = copy_with_keys(tmp_path_factory.mktemp("manifests"))
    return {name: render(command, tree / "overlays" / name) for name in OVERLAYS}


@pytest.fixture(params=OVERLAYS)
def manifests(request, overlays) -> Rendered:
    return overlays[request.param]
