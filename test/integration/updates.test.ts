import { beforeAll, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { startTestNats } from "../support/nats.ts";

let gateways: [TestGateway, TestGateway];
let count = 0;

beforeAll(async () => {
  const nats = await startTestNats();
  gateways = [await startGateway(nats), await startGateway(nats)];
  return () => Promise.all(gateways.map((gateway) => gateway.close()));
});

async function newBucket(settings: object = {}): Promise<string> {
  const name = `u${count++}`;
  await callJson("POST", `${gateways[0].api}/buckets`, { name, ...settings });
  return `${gateways[0].api}/buckets/${name}`;
}

const put = (bucket: string, key: string, value: unknown, query = ""): Promise<Answer> =>
  callJson("PUT", `${bucket}/keys/${key}${query}`, value);
const get = (bucket: string, key: string): Promise<Answer> => call("GET", `${bucket}/keys/${key}`);
const gone = (bucket: string, key: string): Promise<unknown> =>
  expect
    .poll(async () => (await get(bucket, key)).status, { timeout: 5_000, interval: 20 })
    .toBe(404);

describe("a time to live", () => {
  test.each(["90", "90s", "PT1M30S"])(
    "is understood as %s and shown as expires_at",
    async (ttl) => {
      const bucket = await newBucket();
      const { body } = await put(bucket, "k", 1, `?ttl=${ttl}`);
      const entry = (await get(bucket, "k")).body;
      expect(Date.parse(entry.expires_at) - Date.parse(entry.created_at)).toBe(90_000);
      expect(Math.abs(Date.parse(body.expires_at) - Date.parse(entry.expires_at))).toBeLessThan(
        1000,
      );
    },
  );

  test.each(["0", "999ms", "366d", "soon", "-5", ""])("of %j is refused", async (ttl) => {
    const bucket = await newBucket();
    expect(await put(bucket, "k", 1, `?ttl=${ttl}`)).toMatchObject({
      status: 400,
      body: { code: "invalid_ttl" },
    });
    expect((await get(bucket, "k")).status).toBe(404);
  });

  test.each([
    [1, "1s"],
    [5, "1s"],
    [5, "1100ms"],
  ])(
    "removes the key exactly then and never uncovers an older value, history %i, %s",
    async (history, ttl) => {
      const bucket = await newBucket({ history });
      await put(bucket, "k", "old");
      await put(bucket, "k", "older");
      const { expires_at: end } = (await put(bucket, "k", "new", `?ttl=${ttl}`)).body as {
        expires_at: string;
      };
      const seen: { at: number; status: number; value: unknown }[] = [];
      while (Date.now() < Date.parse(end) + 700) {
        const at = Date.now();
        const { status, body } = await get(bucket, "k");
        seen.push({ at, status, value: body.value });
      }
      expect(
        seen.filter(({ at }) => at < Date.parse(end) - 100).every(({ value }) => value === "new"),
      ).toBe(true);
      expect(
        seen.filter(({ at }) => at > Date.parse(end) + 100).every(({ status }) => status === 404),
      ).toBe(true);
      expect(new Set(seen.map(({ value }) => value))).toEqual(new Set(["new", undefined]));
      expect((await call("GET", `${bucket}/keys`)).body.keys).toEqual([]);
    },
  );

  test("is kept to the millisecond, whatever writes it", async () => {
    const bucket = await newBucket();
    const began = Date.now();
    await put(bucket, "put", 1, "?ttl=90.25");
    await callJson("POST", `${bucket}/increment/increment`, { ttl: "90250ms" });
    await put(bucket, "touch", 1);
    await callJson("POST", `${bucket}/touch/touch`, { ttl: "PT90.25S" });
    await callJson("POST", `${bucket}/batch`, { set: [{ key: "batch", value: 1, ttl: 90.25 }] });
    await callJson("POST", `${bucket}/transactions`, {
      operations: [{ op: "put", key: "transaction", value: 1, ttl: 90.25 }],
    });
    const took = Date.now() - began;
    const { entries } = (await call("GET", `${bucket}/keys?values=true`)).body as {
      entries: { key: string; expires_at: string }[];
    };
    expect(entries).toHaveLength(5);
    for (const { expires_at } of entries) {
      const life = Date.parse(expires_at) - began;
      expect(life).toBeGreaterThanOrEqual(90_250);
      expect(life).toBeLessThanOrEqual(90_250 + took);
    }
  });

  test("does not outlive a later plain write", async () => {
    const bucket = await newBucket({ history: 3 });
    await put(bucket, "k", 1, "?ttl=1s");
    await put(bucket, "k", 2);
    await put(bucket, "other", 1, "?ttl=1s");
    await gone(bucket, "other");
    expect((await get(bucket, "k")).body).toMatchObject({ value: 2 });
    expect((await get(bucket, "k")).body).not.toHaveProperty("expires_at");
  });

  test("ends with a watch event that says why", async () => {
    const bucket = await newBucket({ history: 2 });
    const socket = new WebSocket(`${bucket.replace("http", "ws")}/watch`);
    const frames: { key: string; operation: string; reason?: string }[] = [];
    socket.on("message", (data: Buffer) =>
      frames.push(JSON.parse(data.toString()) as (typeof frames)[0]),
    );
    await new Promise((resolve) => socket.once("open", resolve));
    await put(bucket, "k", 1, "?ttl=1s");
    await expect.poll(() => frames.length, { timeout: 5_000 }).toBe(2);
    expect(frames[0]).toMatchObject({ key: "k", operation: "put", expires_at: expect.any(String) });
    expect(frames[1]).toMatchObject({ key: "k", operation: "delete", reason: "expired" });
    socket.close();
  });

  test("of a bucket holds for every key, and shows", async () => {
    const bucket = await newBucket({ ttl_seconds: 1 });
    await put(bucket, "k", 1);
    const entry = (await get(bucket, "k")).body;
    expect(Date.parse(entry.expires_at) - Date.parse(entry.created_at)).toBe(1_000);
    await gone(bucket, "k");
  });

  test("is renewed by touch, which keeps the value", async () => {
    const bucket = await newBucket({ history: 3 });
    await put(bucket, "k", { a: 1 }, "?ttl=1s&description=d");
    expect((await callJson("POST", `${bucket}/touch/k`, { ttl: "1h" })).status).toBe(200);
    await put(bucket, "other", 1, "?ttl=1s");
    await gone(bucket, "other");
    expect((await get(bucket, "k")).body).toMatchObject({ value: { a: 1 }, description: "d" });
    expect(await callJson("POST", `${bucket}/touch/none`, { ttl: 5 })).toMatchObject({
      status: 404,
      body: { code: "key_not_found" },
    });
    expect((await callJson("POST", `${bucket}/touch/k`, {})).body.code).toBe("invalid_request");
  });

  test("runs on through increments and patches to the same end", async () => {
    const bucket = await newBucket();
    const { expires_at: end } = (await callJson("POST", `${bucket}/increment/n`, { ttl: "2s" }))
      .body as { expires_at: string };
    for (let i = 0; i < 5; i++)
      expect((await callJson("POST", `${bucket}/increment/n`, {})).status).toBe(200);
    const entry = (await get(bucket, "n")).body;
    expect(entry.value).toBe(6);
    expect(Math.abs(Date.parse(entry.expires_at) - Date.parse(end))).toBeLessThan(100);
    await gone(bucket, "n");
    expect(Date.now() - Date.parse(end)).toBeLessThan(500);
  });
});

describe("metadata", () => {
  test("is stored with the value and read back", async () => {
    const bucket = await newBucket();
    await put(
      bucket,
      "k",
      "2021-09-01",
      "?description=f%C3%BCr%20alle%0Ada&value_type=DATE&ttl=1h",
    );
    const { body } = await get(bucket, "k");
    expect(body).toMatchObject({ description: "für alle\nda", value_type: "DATE" });
    const head = await call("HEAD", `${bucket}/keys/k`);
    expect(decodeURIComponent(head.headers.get("Jetbucket-Description")!)).toBe("für alle\nda");
    expect(head.headers.get("Jetbucket-Value-Type")).toBe("DATE");
    expect(head.headers.get("Jetbucket-Size")).toBe("12");
    expect(head.headers.get("Jetbucket-Expires-At")).toBe(body.expires_at);
  });

  test("keeps the key's first creation where a writer asks for it", async () => {
    const bucket = await newBucket();
    await put(bucket, "k", 1);
    const first = (await get(bucket, "k")).body.created_at as string;
    for (let i = 2; i < 4; i++) {
      await put(bucket, "k", i, "?keep_created=true");
      expect((await get(bucket, "k")).body).toMatchObject({ value: i, first_created_at: first });
    }
    await put(bucket, "k", 5);
    expect((await get(bucket, "k")).body).not.toHaveProperty("first_created_at");
  });
});

describe("return", () => {
  test("previous gives what was replaced, latest what is stored", async () => {
    const bucket = await newBucket();
    expect((await put(bucket, "k", 1, "?return=previous")).body.previous).toBeNull();
    expect((await put(bucket, "k", 2, "?return=previous")).body.previous).toMatchObject({
      key: "k",
      value: 1,
      revision: 1,
    });
    const { body } = await put(bucket, "k", 3, "?return=latest&ttl=1h");
    expect(body.latest).toEqual((await get(bucket, "k")).body);
    expect((await put(bucket, "k", 3, "?return=both")).body.code).toBe("invalid_request");
  });

  test("previous is exact among writers at the same time", async () => {
    const bucket = await newBucket();
    const name = bucket.split("/").at(-1)!;
    const answers = await Promise.all(
      Array.from({ length: 32 }, (_, i) =>
        put(`${gateways[i % 2]!.api}/buckets/${name}`, "k", i, "?return=previous"),
      ),
    );
    const links = answers.map(
      ({ body }) => (body.previous as { revision: number } | null)?.revision ?? 0,
    );
    expect(new Set(links).size).toBe(32);
    expect([...links].sort((a, b) => a - b)).toEqual([
      0,
      ...answers
        .map(({ body }) => body.revision as number)
        .sort((a, b) => a - b)
        .slice(0, -1),
    ]);
  });
});

describe("increment", () => {
  test("adds up exactly: 64 at a time through two gateways", async () => {
    const bucket = await newBucket();
    const name = bucket.split("/").at(-1)!;
    const answers = await Promise.all(
      Array.from({ length: 64 }, (_, i) =>
        callJson("POST", `${gateways[i % 2]!.api}/buckets/${name}/increment/n`, { by: 3 }),
      ),
    );
    expect(answers.map(({ body }) => body.value as number).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 64 }, (_, i) => (i + 1) * 3),
    );
    expect((await get(bucket, "n")).body.value).toBe(192);
  });

  test("begins at initial, counts down, and refuses what is no whole number", async () => {
    const bucket = await newBucket();
    expect(
      (await callJson("POST", `${bucket}/increment/n`, { by: -2, initial: 10 })).body.value,
    ).toBe(8);
    expect((await call("POST", `${bucket}/increment/n`)).body.value).toBe(9);
    expect((await callJson("POST", `${bucket}/increment?key=n`, {})).body.value).toBe(10);
    await put(bucket, "text", "ten");
    await put(bucket, "half", 1.5);
    await put(bucket, "big", Number.MAX_SAFE_INTEGER);
    for (const key of ["text", "half", "big"]) {
      expect((await callJson("POST", `${bucket}/increment/${key}`, {})).body.code).toBe(
        "invalid_request",
      );
    }
    expect((await callJson("POST", `${bucket}/increment/n`, { by: 0.5 })).body.code).toBe(
      "invalid_request",
    );
    expect((await get(bucket, "big")).body.value).toBe(Number.MAX_SAFE_INTEGER);
  });
});

describe("a merge patch", () => {
  const patch = (bucket: string, key: string, value: unknown, headers = {}): Promise<Answer> =>
    call("PATCH", `${bucket}/keys/${key}`, JSON.stringify(value), {
      "Content-Type": "application/merge-patch+json",
      ...headers,
    });

  test("changes members, removes those that are null, and makes a key that is not there", async () => {
    const bucket = await newBucket();
    expect((await patch(bucket, "k", { a: 1, b: { c: 2, d: 3 }, e: null })).body.value).toEqual({
      a: 1,
      b: { c: 2, d: 3 },
    });
    const answer = await patch(bucket, "k", { a: null, b: { c: 4 } });
    expect(answer.body).toMatchObject({ value: { b: { c: 4, d: 3 } }, revision: 2 });
    expect((await get(bucket, "k")).body.value).toEqual({ b: { c: 4, d: 3 } });
  });

  test("of different members at the same time loses none", async () => {
    const bucket = await newBucket();
    const name = bucket.split("/").at(-1)!;
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        patch(`${gateways[i % 2]!.api}/buckets/${name}`, "doc", { [`f${i}`]: i }),
      ),
    );
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    expect(Object.keys((await get(bucket, "doc")).body.value as object)).toHaveLength(40);
  });

  test("honours If-Match, refuses what is not JSON, and is not fooled by __proto__", async () => {
    const bucket = await newBucket();
    await put(bucket, "k", { a: 1 });
    expect(await patch(bucket, "k", { b: 1 }, { "If-Match": "7" })).toMatchObject({
      status: 412,
      body: { details: { current_revision: 1 } },
    });
    expect((await patch(bucket, "k", { b: 1 }, { "If-Match": "1" })).status).toBe(200);
    await call("PUT", `${bucket}/keys/text`, "plain", { "Content-Type": "text/plain" });
    expect((await patch(bucket, "text", { b: 1 })).body.code).toBe("invalid_request");
    expect(
      (await call("PATCH", `${bucket}/keys/k`, "{", { "Content-Type": "application/json" })).body
        .code,
    ).toBe("invalid_json");
    await call(
      "PATCH",
      `${bucket}/keys/k`,
      '{"__proto__":{"x":1},"constructor":{"prototype":{"x":1}}}',
      { "Content-Type": "application/json" },
    );
    expect(({} as { x?: number }).x).toBeUndefined();
    expect(await (await fetch(`${bucket}/keys/k?raw=true`)).text()).toContain(
      '"__proto__":{"x":1}',
    );
  });
});

describe("restore", () => {
  test("makes an old revision's value the latest, under a condition if asked", async () => {
    const bucket = await newBucket({ history: 5 });
    for (const value of ["one", "two", "three"]) await put(bucket, "k", value);
    expect(
      (await callJson("POST", `${bucket}/restore/k`, { revision: 1 }, { "If-Match": "2" })).body
        .code,
    ).toBe("revision_mismatch");
    const { body } = await callJson(
      "POST",
      `${bucket}/restore/k`,
      { revision: 1 },
      { "If-Match": "3" },
    );
    expect(body.revision).toBe(4);
    expect((await get(bucket, "k")).body).toMatchObject({ value: "one", revision: 4 });
    expect((await callJson("POST", `${bucket}/restore/k`, { revision: 99 })).body.code).toBe(
      "revision_not_found",
    );
  });
});

describe("a fresh read", () => {
  test("takes Min-Revision and consistency=strong, and refuses nonsense", async () => {
    const bucket = await newBucket();
    const { revision } = (await put(bucket, "k", 1)).body as { revision: number };
    expect(
      (await call("GET", `${bucket}/keys/k`, undefined, { "Min-Revision": String(revision) }))
        .status,
    ).toBe(200);
    expect((await call("GET", `${bucket}/keys/k?consistency=strong`)).body.value).toBe(1);
    expect((await call("GET", `${bucket}/keys/k?consistency=weak`)).body.code).toBe(
      "invalid_request",
    );
    expect(
      (await call("GET", `${bucket}/keys/k`, undefined, { "Min-Revision": "x" })).body.code,
    ).toBe("invalid_request");
  });
});

test("every write names how durable it is, as the bucket is stored", async () => {
  const file = await newBucket();
  const memory = await newBucket({ storage: "memory" });
  expect((await put(file, "k", 1)).headers.get("Durability")).toBe("cached");
  expect((await put(memory, "k", 1)).headers.get("Durability")).toBe("memory");
  expect((await call("DELETE", `${file}/keys/k`)).headers.get("Durability")).toBe("cached");
});
