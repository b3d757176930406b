"""The AWS store, as the manifest describes it."""

from __future__ import annotations

import os

from keyturn.errors import UsageError
from keyturn.stores._aws_secrets import AwsSettings
from keyturn.stores._context import StoreContext
from keyturn.stores.aws import AwsStore

__all__ = ["build"]

_PATH = "{project}/{environment}"


def build(context: StoreContext) -> AwsStore:
    """
    Return the store that *context* describes.

    Raises:
        UsageError: The manifest's description of it cannot be used.
    """
    path = context.text("path") or _PATH
    if path.endswith("/"):
        raise UsageError(
            f"the path `{path}` of the store `{context.settings.name}` ends in `/`",
            hint="leave it out: names follow it with one between",
            code="store.path",
        )
    layout = context.text("layout")
    settings = AwsSettings(
        region=_region(context),
        endpoint_url=context.text("endpoint_url"),
        profile=context.text("profile"),
        prefix=f"{path}/",
        kms_key=context.text("kms_key"),
        recovery_days=context.number("recovery_days") or 30,
        layout="json" if layout == "json" else "string",
    )
    settings.check()
    return AwsStore(
        settings,
        project=context.project,
        clock=context.clock,
        entropy=context.entropy,
        facts=context.facts,
    )


def _region(context: StoreContext) -> str:
    found = (
        context.text("region")
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
    )
    if not found:
        raise UsageError(
            f"the store `{context.settings.name}` has no region",
            hint='write region = "eu-central-1" or your own in its table, or set AWS_REGION',
            code="store.settings",
        )
    return found
