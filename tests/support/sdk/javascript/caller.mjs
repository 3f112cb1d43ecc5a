// The AWS SDK for JavaScript: calls STS every second and prints the access key that signed the call, or the error.
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { setTimeout } from "node:timers/promises";

// A retry would hide a failed call.
const sts = new STSClient({ maxAttempts: 1 });
let key;
sts.middlewareStack.add(
  (next) => async (args) => {
    key = /Credential=([A-Z0-9]+)\//.exec(args.request.headers.authorization)?.[1];
    return next(args);
  },
  { step: "deserialize", name: "recordAccessKey" },
);
while (true) {
  const pause = setTimeout(1000);
  let result;
  try {
    await sts.send(new GetCallerIdentityCommand({}));
    result = { key };
  } catch (error) {
    result = { error: `${error.name}: ${error.message}` };
  }
  process.stdout.write(JSON.stringify(result) + "\n");
  await pause;
}
