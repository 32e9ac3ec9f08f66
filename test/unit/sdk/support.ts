import { createClient } from "../../../src/sdk/node.ts";
import { startFakeGateway, type Answer, type FakeGatewayOptions } from "./fake-gateway.ts";

/** Where the keys of the bucket `b` are. */
export const base = "/api/v1/kv/buckets/b";

export const written = { revision: 7, created_at: "2026-01-01T00:00:00.000Z" };

/** A fake gateway that answers as told, and a bucket `b` on it. */
export async function startBucket(
  answer: NonNullable<FakeGatewayOptions["answer"]> | Answer = { body: written },
) {
  const gateway = await startFakeGateway({
    answer: typeof answer === "function" ? answer : () => answer,
  });
  const kv = createClient({ serverUrl: gateway.url, apiKey: "key-1" }).kv();
  /** Method and address of each request. */
  const asked = () => gateway.requests.map(({ method, url }) => `${method} ${url}`);
  const bodies = () => gateway.requests.map(({ body }) => JSON.parse(body.toString()) as unknown);
  return { ...gateway, kv, bucket: kv.bucket("b"), asked, bodies };
}
