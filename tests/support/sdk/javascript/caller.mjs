// The AWS SDK for JavaScript: calls STS each second with what it finds by itself, and tells which key signed, or what failed.
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { setTimeout } from "node:timers/promises";

// No second attempt: it would hide that the first one failed.
const sts = new STSClient({ maxAttempts: 1 });
let key;
sts.middlewareStack.add(
  (next) => async (args) => {
    key = /Credential=([A-Z0-9]+)\//.exec(args.request.headers.authorization)?.[1];
    return next(args);
  },
  { step: "deserialize", name: "tellsWhichKeySigned" },
);
while (true) {
  const pause = setTimeout(1000);
  let told;
  try {
    await sts.send(new GetCallerIdentityCommand({}));
    told = { key };
  } catch (error) {
    told = { error: `${error.name}: ${error.message}` };
  }
  process.stdout.write(JSON.stringify(told) + "\n");
  await pause;
}
