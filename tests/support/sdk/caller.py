"""boto3: calls STS every second and prints the access key that signed the call, or the error."""

import json
import re
import time
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    # A retry would hide a failed call.
    sts = boto3.client("sts", config=Config(retries={"total_max_attempts": 1}))
    signed: dict[str, str] = {}

    def read_key(request: Any, **_: Any) -> None:
        match = re.search(r"Credential=([A-Z0-9]+)/", str(request.headers["Authorization"]))
        signed["key"] = match[1] if match else ""

    sts.meta.events.register("before-send.sts.*", read_key)
    while True:
        start = time.monotonic()
        try:
            sts.get_caller_identity()
            line = signed
        except (BotoCoreError, ClientError) as error:
            line = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(line), flush=True)
        time.sleep(max(0.0, 1 - (time.monotonic() - start)))


if __name__ == "__main__":
    main()
