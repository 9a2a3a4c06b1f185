"""`twinlog cluster resume`: the end of `twinlog cluster pause`."""

from __future__ import annotations

import click

from ops.refusal import refusals
from ops.target import resolve, target_options

from .pause import told


@click.command()
@target_options
@click.option("--json", "as_json", is_flag=True, help="The outcome as JSON.")
def resume(url: str | None, key_file: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Let programs promote and switch over again. Exit codes as `pause`."""
    with refusals(), resolve(url, key_file).connect() as client:
        answer = client.resume()
    told(answer, "resumed", as_json=as_json)
