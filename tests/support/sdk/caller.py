"""boto3: calls STS each second with what it finds by itself, and tells which key signed, or what failed."""

import json
import re
import sys
import time
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    """Call until somebody ends it."""
    # No second attempt: it would hide that the first one failed.
    sts = boto3.client("sts", config=Config(retries={"total_max_attempts": 1}))
    signed: dict[str, str] = {}

    def read_key(request: Any, **_: Any) -> None:
        found = re.search(r"Credential=([A-Z0-9]+)/", str(request.headers["Authorization"]))
        signed["key"] = found[1] if found else ""

    sts.meta.events.register("before-send.sts.*", read_key)
    while True:
        began = time.monotonic()
        try:
            sts.get_caller_identity()
            told = signed
        except (BotoCoreError, ClientError) as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        time.sleep(max(0.0, 1 - (time.monotonic() - began)))


if __name__ == "__main__":
    main()
