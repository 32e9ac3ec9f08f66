import { describe, expect, expectTypeOf, onTestFinished, test, vi } from "vitest";
import { z } from "zod";
import { KvError } from "../../../src/protocol/errors.ts";
import {
  createClient,
  type Bucket,
  type Change,
  type JetbucketError,
  type KeyChange,
  type LiveBucket,
  type StandardSchemaV1,
} from "../../../src/sdk/node.ts";
import { readyFrame, startFakeGateway, updateFrame, wireEntry } from "./fake-gateway.ts";
import { startBucket, written } from "./support.ts";

const User = z.object({ name: z.string(), age: z.number().default(0) });
const fits = { name: "Ada" };
/** What a cast in a program, or another writer, may come up with. */
const unfit = { name: 7 } as unknown as { name: string };

async function startUsers(answer?: Parameters<typeof startBucket>[0]) {
  const gateway = await startBucket(answer);
  return { ...gateway, users: gateway.kv.bucket("b", { schema: User }) };
}

async function failureOf(promise: Promise<unknown>): Promise<JetbucketError> {
  return promise.then(
    () => expect.unreachable("expected a rejection"),
    (error: unknown) => error as JetbucketError,
  );
}

describe("a value that is written", () => {
  test("is refused before any request when it does not fit", async () => {
    const { users, requests } = await startUsers();
    const writes = [
      () => users.put("k", unfit),
      () => users.create("k", unfit),
      () => users.update("k", unfit, 3),
      () => users.transaction().put("other", fits).create("k", unfit).commit(),
    ];
    for (const write of writes) {
      const error = await failureOf(write());
      expect(error).toMatchObject({
        code: "invalid_value",
        details: { bucket: "b", key: "k" },
        issues: [{ path: ["name"] }],
      });
      expect(error.message).toMatch(/^the value of key "k" does not fit: name: /);
    }
    expect(requests).toHaveLength(0);
  });

  test("is stored as it was given, and read as the schema makes it", async () => {
    const { users, bodies } = await startUsers(({ method }) => ({
      body:
        method === "PUT"
          ? { ...written, latest: wireEntry("k", fits, 7) }
          : wireEntry("k", fits, 7),
    }));
    const { latest } = await users.put("k", fits, { return: "latest" });
    expect(bodies()).toEqual([fits]);
    expect(latest.value).toEqual({ name: "Ada", age: 0 });
    expect((await users.get("k")).value).toEqual({ name: "Ada", age: 0 });
  });

  test("among many fails alone", async () => {
    const { users, bodies } = await startUsers({ body: { set: [{ key: "a", ...written }] } });
    const result = await users.putMany([
      { key: "a", value: fits },
      { key: "k", value: unfit },
    ]);
    expect(bodies()).toEqual([{ set: [{ key: "a", value: fits }] }]);
    expect([...result.written.keys()]).toEqual(["a"]);
    expect(result.failed.get("k")).toMatchObject({ code: "invalid_value" });
  });
});

describe("a value that is read", () => {
  test("is refused wherever it is read when it does not fit", async () => {
    const entry = wireEntry("k", unfit, 3);
    const { users } = await startUsers(({ url, method }) => {
      if (url.endsWith("/batch")) return { body: { get: [entry] } };
      if (url.includes("/history/")) return { body: { entries: [entry], count: 1 } };
      if (url.includes("/diff/")) return { body: { key: "k", from: null, to: entry } };
      if (url.includes("/keys?")) return { body: { entries: [entry] } };
      return { body: method === "PUT" ? { ...written, previous: entry } : entry };
    });
    const reads = [
      () => users.get("k"),
      () => users.find("k"),
      () => users.keyAt("k", 3),
      () => users.history("k"),
      () => users.diff("k", { from: 1 }),
      () => users.getMany(["k"]),
      () => users.list().toArray(),
      () => users.put("k", fits, { return: "previous" }),
    ];
    for (const read of reads) {
      expect(await failureOf(read())).toMatchObject({
        code: "invalid_value",
        details: { bucket: "b", key: "k", revision: 3 },
        issues: [{ path: ["name"] }],
      });
    }
  });

  test("is what the schema makes of it, also when that takes time", async () => {
    const schema = z.number().transform((value) => Promise.resolve(String(value)));
    const { kv } = await startBucket({ body: { entries: [wireEntry("k", 1, 3)] } });
    const bucket = kv.bucket("b", { schema });
    const [entry] = await bucket.list().toArray();
    expect(entry).toMatchObject({ key: "k", value: "1", revision: 3 });
    expectTypeOf(entry!.value).toBeString();
  });
});

describe("a patch", () => {
  const stored = wireEntry("k", { name: "Ada", age: 36 }, 3);

  test("is refused when its result would not fit", async () => {
    const { users, asked } = await startUsers({ body: stored });
    const error = await failureOf(users.patch("k", { name: null }));
    expect(error).toMatchObject({ code: "invalid_value", issues: [{ path: ["name"] }] });
    expect(asked()).toEqual(["GET /api/v1/kv/buckets/b/keys/k?consistency=strong"]);
  });

  test("is sent for the value that it was checked with, again when that was overtaken", async () => {
    let revision = 3;
    const { users, requests } = await startUsers(({ method }) => {
      if (method === "GET") return { body: { ...stored, revision } };
      if (revision++ < 5) {
        return { status: 412, body: new KvError("revision_mismatch", "no").toBody() };
      }
      return { body: { ...written, value: { name: "Ada", age: 37 } } };
    });
    const { value } = await users.patch("k", { age: 37 });
    expect(value).toEqual({ name: "Ada", age: 37 });
    const patches = requests.filter(({ method }) => method === "PATCH");
    expect(patches.map(({ headers }) => headers["if-match"])).toEqual(["3", "4", "5"]);
    expect(patches.at(-1)!.body.toString()).toBe('{"age":37}');
  });

  test("gives up when the caller's own condition does not hold, or others are always faster", async () => {
    const { users, requests } = await startUsers(({ method }) =>
      method === "GET"
        ? { body: stored }
        : { status: 412, body: new KvError("revision_mismatch", "no").toBody() },
    );
    const conflict = { code: "revision_mismatch" };
    await expect(users.patch("k", { age: 1 }, { ifRevision: 2 })).rejects.toMatchObject(conflict);
    expect(requests.at(-1)!.headers["if-match"]).toBe("2");
    expect(requests).toHaveLength(2);
    await expect(users.patch("k", { age: 1 })).rejects.toMatchObject(conflict);
    expect(requests).toHaveLength(2 + 20);
  });

  test("of a key that does not exist is checked as a value of its own", async () => {
    const { users, requests } = await startUsers(({ method }) =>
      method === "GET"
        ? { status: 404, body: new KvError("key_not_found", "no").toBody() }
        : { body: { ...written, value: fits } },
    );
    expect(await failureOf(users.patch("k", { age: 1 }))).toMatchObject({ code: "invalid_value" });
    expect((await users.patch("k", fits)).value).toEqual({ name: "Ada", age: 0 });
    expect(requests.at(-1)!.headers["if-match"]).toBe("0");
  });
});

test("the type of a bucket's values is that of its schema", () => {
  const kv = createClient().kv();
  const users = kv.bucket("b", { schema: User });
  type In = z.input<typeof User>;
  type Out = z.output<typeof User>;
  expectTypeOf(users).toEqualTypeOf<Bucket<Out, In>>();
  expectTypeOf<Parameters<typeof users.put>[1]>().toEqualTypeOf<In>();
  expectTypeOf<Awaited<ReturnType<typeof users.get>>["value"]>().toEqualTypeOf<Out>();
  expectTypeOf<Parameters<Parameters<typeof users.watch>[0]["onUpdate"]>[0]>().toEqualTypeOf<
    Change<Out>
  >();
  const keysOnly = users.changes({ values: false });
  expectTypeOf(keysOnly).toEqualTypeOf<AsyncGenerator<KeyChange, void, undefined>>();
  expectTypeOf<ReturnType<typeof users.live>>().toEqualTypeOf<LiveBucket<Out>>();
  expectTypeOf(kv.bucket("b", { schema: z.string() })).toEqualTypeOf<Bucket<string>>();
});

describe("a watch", () => {
  /** A schema of a library of its own that takes its time, the longer the smaller the number. */
  let checked = 0;
  const slow: StandardSchemaV1<number> = {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: async (value) => {
        if (typeof value !== "number") return { issues: [{ message: "is no number" }] };
        await new Promise((resolve) => setTimeout(resolve, 20 - value));
        checked++;
        return { value };
      },
    },
  };

  async function startWatch<S extends StandardSchemaV1>(schema: S, values: unknown[], end = true) {
    const { url } = await startFakeGateway({
      onWatch: ({ send, socket }, attempt) => {
        if (attempt > 1) return;
        send(...values.map((value, n) => updateFrame(`k${n}`, n + 1, value)));
        send(readyFrame(values.length));
        if (end) socket.close(4404, "gone");
      },
    });
    return createClient({ serverUrl: url }).kv().bucket("b", { schema });
  }

  test.each([
    ["at once", z.number(), "expected number"],
    ["in its own time", slow, "is no number"],
  ])(
    "goes on behind a value that does not fit, and keeps the order, with a schema that answers %s",
    async (_, schema, message) => {
      const bucket = await startWatch(schema, [1, "unfit", 3, 19]);
      const log: unknown[] = [];
      const watcher = bucket.watch({
        onUpdate: ({ key, value }) => log.push(`${key} ${value}`),
        onReady: () => log.push("ready"),
        onError: (error) => log.push(error),
        onClose: () => log.push("closed"),
      });
      await watcher.closed;
      expect(log).toEqual([
        "k0 1",
        expect.objectContaining({
          code: "invalid_value",
          message: expect.stringContaining(message) as string,
          details: { bucket: "b", key: "k1", revision: 2 },
        }),
        "k2 3",
        "k3 19",
        "ready",
        expect.objectContaining({ code: "bucket_not_found" }),
        "closed",
      ]);
    },
  );

  test("that is stopped waits for no check, and tells nothing more", async () => {
    const before = checked;
    const bucket = await startWatch(slow, [1, 2, 3], false);
    const log: unknown[] = [];
    const watcher = bucket.watch({
      onUpdate: ({ key }) => {
        log.push(key);
        watcher.stop();
        log.push("stopped");
      },
      onClose: () => log.push("closed"),
    });
    await watcher.closed;
    await vi.waitFor(() => expect(checked).toBe(before + 3));
    expect(log).toEqual(["k0", "closed", "stopped"]);
  });

  test("as an iterable leaves out what does not fit, and says so", async () => {
    const bucket = await startWatch(slow, [1, "unfit", 3]);
    const keys: string[] = [];
    const onError = vi.fn();
    const read = async () => {
      for await (const { key } of bucket.changes({ onError })) keys.push(key);
    };
    await expect(read()).rejects.toMatchObject({ code: "bucket_not_found" });
    expect(keys).toEqual(["k0", "k2"]);
    expect(onError).toHaveBeenCalledWith(expect.objectContaining({ code: "invalid_value" }));
  });

  test("survives a schema that throws", async () => {
    const broken: StandardSchemaV1<number> = {
      "~standard": {
        version: 1,
        vendor: "test",
        validate: (value) => {
          if (value === 1) throw new Error("broken");
          return { value: value as number };
        },
      },
    };
    const bucket = await startWatch(broken, [1, 2]);
    const keys: string[] = [];
    const onError = vi.fn();
    const watcher = bucket.watch({ onUpdate: ({ key }) => keys.push(key), onError });
    onTestFinished(() => watcher.stop());
    await watcher.closed;
    expect(keys).toEqual(["k1"]);
    expect(onError.mock.calls[0]![0]).toMatchObject({
      code: "invalid_value",
      cause: expect.objectContaining({ message: "broken" }) as Error,
    });
  });
});
