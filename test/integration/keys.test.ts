import { jetstream } from "@nats-io/jetstream";
import fc from "fast-check";
import { headers as natsHeaders } from "nats";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { KvError } from "../../src/protocol/errors.ts";
import { assertKey } from "../../src/protocol/keys.ts";
import type { HistoryList, KeyList, PutResult } from "../../src/protocol/messages.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { connectForeign, type ForeignClient } from "../support/jetstream.ts";
import { Connection } from "../support/raw-http.ts";

let gateway: TestGateway;
let foreign: ForeignClient;
let count = 0;
/** Address and name of a bucket that each test has for itself. */
let bucket: string;
let name: string;

beforeAll(async () => {
  gateway = await startGateway();
  foreign = await connectForeign(gateway.server.url);
});

afterAll(async () => {
  await foreign.close();
  await gateway.close();
});

async function newBucket(settings: object = {}): Promise<void> {
  name = `b${++count}`;
  bucket = `${gateway.api}/buckets/${name}`;
  expect((await callJson("POST", `${gateway.api}/buckets`, { name, ...settings })).status).toBe(
    201,
  );
}

const at = (key: string, query = ""): string =>
  `${bucket}/keys/${encodeURIComponent(key)}${query === "" ? "" : `?${query}`}`;
const put = (key: string, value: unknown, headers: Record<string, string> = {}): Promise<Answer> =>
  callJson("PUT", at(key), value, headers);
const get = (key: string, query = "", headers: Record<string, string> = {}): Promise<Answer> =>
  call("GET", at(key, query), undefined, headers);
const revisionOf = (answer: Answer): number => (answer.body as PutResult).revision;
const keysOf = async (query = ""): Promise<string[]> =>
  ((await call("GET", `${bucket}/keys?${query}`)).body as KeyList).keys;
const refusal = (status: number, code: string, details?: object): object => ({
  status,
  body: expect.objectContaining({ code, ...(details === undefined ? {} : { details }) }) as object,
});

describe("a value", () => {
  beforeAll(() => newBucket());

  test("is written and read with its revision and time", async () => {
    const written = await put("greeting", { hello: "world" });
    expect(written.status).toBe(200);
    expect(written.body).toEqual({
      revision: expect.any(Number) as number,
      created_at: expect.stringMatching(/^\d{4}-.*Z$/) as string,
    });
    const revision = revisionOf(written);
    expect(written.headers.get("ETag")).toBe(`"${revision}"`);
    const read = await get("greeting");
    expect(read.headers.get("ETag")).toBe(`"${revision}"`);
    expect(read.body).toEqual({
      key: "greeting",
      value: { hello: "world" },
      encoding: "json",
      revision,
      created_at: expect.stringMatching(/^\d{4}-.*Z$/) as string,
      operation: "put",
    });
  });

  test("that was never written is 404", async () => {
    expect(await get("nothing")).toMatchObject(refusal(404, "key_not_found"));
  });

  test("answers HEAD with the headers of GET and no body", async () => {
    const revision = revisionOf(await put("head", 1));
    const head = await call("HEAD", at("head"));
    expect(head).toMatchObject({ status: 200, body: "" });
    expect(head.headers.get("ETag")).toBe(`"${revision}"`);
    expect((await call("HEAD", at("nothing"))).status).toBe(404);
  });

  test.each([
    ["JSON null", "application/json", "null", null, "json"],
    ["a JSON string", "application/json", '"text"', "text", "json"],
    ["JSON with a charset", "application/json; charset=utf-8", "[1]", [1], "json"],
    ["text", "text/plain", '"text"', '"text"', "text"],
    ["text of another kind", "text/html", "<b>", "<b>", "text"],
    ["bytes that look like a number", "application/octet-stream", "123", "123", "text"],
    ["nothing", "application/octet-stream", "", "", "text"],
    ["an unknown type", "application/x-own", "own", "own", "text"],
    ["no type", undefined, "plain", "plain", "text"],
  ])("of %s reads back as it was declared", async (_what, type, body, value, encoding) => {
    const bytes = new TextEncoder().encode(body);
    await call("PUT", at("typed"), bytes, type === undefined ? {} : { "Content-Type": type });
    expect((await get("typed")).body).toMatchObject({ value, encoding, operation: "put" });
    const raw = await fetch(at("typed", "raw=true"));
    expect(await raw.text()).toBe(body);
  });

  test("of bytes that are no text reads back as base64, and raw as itself", async () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    await call("PUT", at("image"), bytes, { "Content-Type": "image/png" });
    expect((await get("image")).body).toMatchObject({
      value: Buffer.from(bytes).toString("base64"),
      encoding: "base64",
      content_type: "image/png",
    });
    const raw = await fetch(at("image", "raw=true"));
    expect(raw.headers.get("Content-Type")).toBe("image/png");
    expect(new Uint8Array(await raw.arrayBuffer())).toEqual(bytes);
  });

  test("goes out raw with its own type for readers that do not accept JSON", async () => {
    await call("PUT", at("page"), "<script>", { "Content-Type": "text/html" });
    const raw = await fetch(at("page"), { headers: { Accept: "text/html" } });
    expect(raw.headers.get("Content-Type")).toBe("text/html");
    expect(raw.headers.get("Content-Security-Policy")).toBe("sandbox");
    expect(raw.headers.get("X-Content-Type-Options")).toBe("nosniff");
    expect(await raw.text()).toBe("<script>");
    for (const Accept of ["application/json", "*/*", "text/html, */*;q=0.1"]) {
      expect((await get("page", "", { Accept })).body).toMatchObject({ value: "<script>" });
    }
  });

  test("of JSON is kept as it was sent, to the last space", async () => {
    const body = '{ "b" : 1.0,\n"a": [1e2, "\\u00fc"], "__proto__": {"x": 1} }';
    await call("PUT", at("exact"), body, { "Content-Type": "application/json" });
    expect(await (await fetch(at("exact", "raw=true"))).text()).toBe(body);
    expect(await (await fetch(at("exact"))).text()).toContain(`"value":${body},`);
  });

  test.each([
    ["broken", "{"],
    ["empty", ""],
    ["not UTF-8", Uint8Array.of(0x22, 0xff, 0x22)],
    ["overlong UTF-8", Uint8Array.of(0x22, 0xc0, 0xaf, 0x22)],
    ["behind a byte order mark", "\ufeff1"],
  ])("of JSON that is %s is refused and not stored", async (_what, body) => {
    const headers = { "Content-Type": "application/json" };
    expect(await call("PUT", at("broken"), body, headers)).toMatchObject(
      refusal(400, "invalid_json"),
    );
    expect((await get("broken")).status).toBe(404);
  });

  test("read by many at once arrives for each", async () => {
    const keys = Array.from({ length: 300 }, (_, i) => `many.${i}`);
    await Promise.all(keys.filter((_, i) => i % 3 !== 0).map((key) => put(key, key)));
    const answers = await Promise.all([...keys, ...keys].map((key) => get(key)));
    answers.forEach((answer, i) => {
      const key = keys[i % 300]!;
      if (i % 3 === 0) expect(answer).toMatchObject(refusal(404, "key_not_found"));
      else expect(answer.body).toMatchObject({ key, value: key });
    });
  });
});

describe("a write of another client", () => {
  beforeAll(() => newBucket());

  test.each([
    ["JSON", '{"a":1}', { a: 1 }, "json", "application/json"],
    ["text", "plain", "plain", "text", "text/plain; charset=utf-8"],
    ["bytes", Uint8Array.of(0xff, 0), "/wA=", "base64", "application/octet-stream"],
    ["nothing", "", "", "text", "text/plain; charset=utf-8"],
  ])("is taken for %s where it is", async (_what, stored, value, encoding, type) => {
    await (await foreign.kvm.open(`APP_${name}`)).put("theirs", stored);
    expect((await get("theirs")).body).toMatchObject({ value, encoding });
    const raw = await fetch(at("theirs", "raw=true"));
    expect(raw.status).toBe(200);
    expect(raw.headers.get("Content-Type")).toBe(type);
  });

  test.each(["text/ü漢", "nonsense", "text/plain\tx", ""])(
    "with the content type %j is readable raw and as JSON",
    async (type) => {
      const headers = natsHeaders();
      headers.set("Content-Type", type);
      await jetstream(foreign.nats).publish(`$KV.APP_${name}.odd`, "odd", { headers });
      expect((await get("odd")).body).toMatchObject({ key: "odd", value: "odd" });
      const raw = await fetch(at("odd", "raw=true"));
      expect(raw.status).toBe(200);
      expect(await raw.text()).toBe("odd");
    },
  );
});

describe("a conditional write", () => {
  beforeAll(() => newBucket({ history: 5 }));

  test("with If-None-Match: * creates, and otherwise says which revision is there", async () => {
    const created = await put("create", 1, { "If-None-Match": "*" });
    expect(created.status).toBe(200);
    const revision = revisionOf(created);
    expect(await put("create", 2, { "If-None-Match": "*" })).toMatchObject(
      refusal(412, "key_exists", { current_revision: revision }),
    );
    expect((await get("create")).body).toMatchObject({ value: 1 });
  });

  test.each(["delete", "purge"])("creates anew after a %s", async (how) => {
    await put(how, 1);
    await call("DELETE", at(how, how === "purge" ? "purge=true" : ""));
    expect(await put(how, 2, { "If-None-Match": "*" })).toMatchObject({ status: 200 });
    expect(await put(how, 3, { "If-None-Match": "*" })).toMatchObject(refusal(412, "key_exists"));
  });

  test.each([
    ["bare", (n: number) => `${n}`],
    ["quoted", (n: number) => `"${n}"`],
    ["weak", (n: number) => `W/"${n}"`],
  ])("with a %s If-Match applies at that revision only", async (_form, tag) => {
    const first = revisionOf(await put("match", 1));
    const second = await put("match", 2, { "If-Match": tag(first) });
    expect(second.status).toBe(200);
    for (const stale of [first, first + 1000]) {
      expect(await put("match", 3, { "If-Match": tag(stale) })).toMatchObject(
        refusal(412, "revision_mismatch", { current_revision: revisionOf(second) }),
      );
    }
    expect((await get("match")).body).toMatchObject({ value: 2 });
  });

  test("with If-Match: 0 applies only where there is no key", async () => {
    const created = await put("zero", 1, { "If-Match": "0" });
    expect(created.status).toBe(200);
    expect(await put("zero", 2, { "If-Match": '"0"' })).toMatchObject(
      refusal(412, "revision_mismatch", { current_revision: revisionOf(created) }),
    );
    await call("DELETE", at("zero"));
    expect((await put("zero", 3, { "If-Match": "0" })).status).toBe(200);
  });

  test("with If-Match: * applies only where there is a key", async () => {
    expect(await put("star", 1, { "If-Match": "*" })).toMatchObject(
      refusal(412, "revision_mismatch", { current_revision: 0 }),
    );
    await put("star", 1);
    expect((await put("star", 2, { "If-Match": "*" })).status).toBe(200);
    await call("DELETE", at("star"));
    expect((await put("star", 3, { "If-Match": "*" })).status).toBe(412);
    expect((await get("star")).status).toBe(404);
  });

  test("of many who create one key at once, one succeeds, also over a tombstone", async () => {
    for (const round of [1, 2]) {
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, i) =>
          put("race", `${round}.${i}`, { "If-None-Match": "*" }),
        ),
      );
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
      expect(answers.filter(({ status }) => status === 412)).toHaveLength(19);
      await call("DELETE", at("race"));
    }
  });

  test.each([
    ["If-Match", "abc"],
    ["If-Match", '"1", "2"'],
    ["If-Match", "-1"],
    ["If-Match", "1.5"],
    ["If-Match", '"1'],
    ["If-Match", "12345678901234567"],
    ["If-None-Match", "7"],
    ["If-None-Match", '"*"'],
  ])("with %s: %s is refused", async (header, value) => {
    expect(await put("bad", 1, { [header]: value })).toMatchObject(refusal(400, "invalid_request"));
    expect((await get("bad")).status).toBe(404);
  });

  test("with both headers is refused", async () => {
    const both = { "If-Match": "1", "If-None-Match": "*" };
    expect(await put("bad", 1, both)).toMatchObject(refusal(400, "invalid_request"));
  });
});

describe("a conditional read", () => {
  beforeAll(() => newBucket());

  test("answers 304 without a body where the reader has the revision", async () => {
    const revision = revisionOf(await put("k", 1));
    const tags = [`"${revision}"`, `W/"${revision}"`, `${revision}`, `"1000", "${revision}"`, "*"];
    for (const tag of tags) {
      const answer = await get("k", "", { "If-None-Match": tag });
      expect(answer).toMatchObject({ status: 304, body: "" });
      expect(answer.headers.get("ETag")).toBe(`"${revision}"`);
    }
    for (const tag of [`"${revision + 1}"`, '"abc"', '""']) {
      expect((await get("k", "", { "If-None-Match": tag })).status).toBe(200);
    }
    expect((await get("nothing", "", { "If-None-Match": "*" })).status).toBe(404);
  });
});

describe("deleting", () => {
  beforeAll(() => newBucket({ history: 5 }));

  test("answers 204 and leaves a tombstone in the history", async () => {
    await put("k", 1);
    expect(await call("DELETE", at("k"))).toMatchObject({ status: 204, body: "" });
    expect(await get("k")).toMatchObject(refusal(404, "key_not_found"));
    const { body } = await call("GET", `${bucket}/history/k`);
    expect(body).toMatchObject({
      count: 2,
      entries: [
        { operation: "put", value: 1 },
        { operation: "delete", reason: "delete" },
      ],
    });
    expect((body as HistoryList).entries[1]).not.toHaveProperty("value");
  });

  test("with purge=true takes the history too", async () => {
    await put("purged", 1);
    await put("purged", 2);
    expect((await call("DELETE", at("purged", "purge=true"))).status).toBe(204);
    expect((await call("GET", `${bucket}/history/purged`)).body).toMatchObject({
      count: 1,
      entries: [{ operation: "delete", reason: "purge" }],
    });
  });

  test("what is not there answers 204 and stores nothing", async () => {
    const before = (await foreign.jsm.streams.info(`KV_APP_${name}`)).state.last_seq;
    for (const query of ["", "purge=true"]) {
      expect((await call("DELETE", at("never", query))).status).toBe(204);
    }
    expect((await call("DELETE", at("never"), undefined, { "If-Match": "0" })).status).toBe(204);
    await put("once", 1);
    await call("DELETE", at("once"));
    expect((await call("DELETE", at("once"))).status).toBe(204);
    const after = (await foreign.jsm.streams.info(`KV_APP_${name}`)).state.last_seq;
    expect(after - before).toBe(2);
  });

  test("honours If-Match, purging too", async () => {
    const revision = revisionOf(await put("matched", 1));
    for (const query of ["", "purge=true"]) {
      const stale = { "If-Match": `${revision + 7}` };
      expect(await call("DELETE", at("matched", query), undefined, stale)).toMatchObject(
        refusal(412, "revision_mismatch", { current_revision: revision }),
      );
    }
    expect(await call("DELETE", at("matched"), undefined, { "If-Match": "0" })).toMatchObject(
      refusal(412, "revision_mismatch", { current_revision: revision }),
    );
    expect((await get("matched")).status).toBe(200);
    const current = { "If-Match": `"${revision}"` };
    expect((await call("DELETE", at("matched"), undefined, current)).status).toBe(204);
    expect((await get("matched")).status).toBe(404);
  });

  test("refuses a purge that is neither true nor false", async () => {
    await put("kept", 1);
    expect(await call("DELETE", at("kept", "purge=maybe"))).toMatchObject(
      refusal(400, "invalid_request"),
    );
    expect((await get("kept")).status).toBe(200);
  });
});

describe("history", () => {
  beforeAll(() => newBucket({ history: 3 }));

  test("keeps as many revisions as the bucket says, oldest first", async () => {
    for (const value of [1, 2, 3, 4]) await put("k", value);
    await put("k.other", 9);
    const { body } = await call("GET", `${bucket}/history/k`);
    expect(body).toMatchObject({ count: 3, entries: [{ value: 2 }, { value: 3 }, { value: 4 }] });
    const revisions = (body as HistoryList).entries.map(({ revision }) => revision);
    expect(revisions).toEqual([...revisions].sort((a, b) => a - b));
  });

  test("of a key that never was is 404", async () => {
    expect(await call("GET", `${bucket}/history/never`)).toMatchObject(
      refusal(404, "key_not_found"),
    );
  });

  test("can be read at a revision, by its own key only", async () => {
    const first = revisionOf(await put("at", "first"));
    await put("at", "second");
    expect((await get("at", `revision=${first}`)).body).toMatchObject({
      key: "at",
      value: "first",
      revision: first,
    });
    for (const [key, revision] of [
      ["other", first],
      ["at", 999_999],
    ] as const) {
      expect(await get(key, `revision=${revision}`)).toMatchObject(
        refusal(404, "revision_not_found"),
      );
    }
    await call("DELETE", at("at"));
    const { entries } = (await call("GET", `${bucket}/history/at`)).body as HistoryList;
    expect((await get("at", `revision=${entries.at(-1)!.revision}`)).status).toBe(404);
    expect((await get("at", `revision=${first}`)).body).toMatchObject({ value: "first" });
  });

  test.each(["0", "-1", "abc", "1.5", "99999999999999999999"])(
    "at the revision %s is refused",
    async (revision) => {
      expect(await get("at", `revision=${revision}`)).toMatchObject(
        refusal(400, "invalid_request"),
      );
    },
  );
});

describe("listing keys", () => {
  const all = ["user.1", "user.1.name", "user.2", "users", "user-7", "a b", "ü", "x/y", "*", "z.>"];

  beforeAll(async () => {
    await newBucket();
    for (const key of [...all, "gone.1", "gone.2"]) await put(key, 1);
    await call("DELETE", at("gone.1"));
    await call("DELETE", at("gone.2", "purge=true"));
  });

  test("has all live keys, sorted, and no tombstones", async () => {
    expect((await call("GET", `${bucket}/keys`)).body).toEqual({
      keys: [...all].sort(),
      count: all.length,
    });
  });

  test.each([
    ["user.*", ["user.1", "user.2"]],
    ["user.>", ["user.1", "user.1.name", "user.2"]],
    ["user-*", ["user-7"]],
    ["user*", ["user-7", "users"]],
    ["*.1", ["user.1"]],
    ["* *", ["a b"]],
    ["ü", ["ü"]],
    ["x/*", ["x/y"]],
    ["gone.*", []],
    ["nothing", []],
    [">", [...all].sort()],
  ])("takes the filter %s", async (filter, expected) => {
    expect(await keysOf(`filter=${encodeURIComponent(filter)}`)).toEqual(expected);
  });

  test("takes a prefix, a limit and a cursor that stays good while keys come and go", async () => {
    expect(await keysOf("prefix=user")).toEqual([
      "user-7",
      "user.1",
      "user.1.name",
      "user.2",
      "users",
    ]);
    const first = (await call("GET", `${bucket}/keys?limit=3`)).body as KeyList;
    expect(first).toMatchObject({ keys: [...all].sort().slice(0, 3), count: 3 });
    await put("000 came in front", 1);
    await call("DELETE", at(first.keys[2]!));
    const cursor = encodeURIComponent(first.next_cursor!);
    const second = (await call("GET", `${bucket}/keys?limit=100&cursor=${cursor}`)).body as KeyList;
    expect(second).toEqual({ keys: [...all].sort().slice(3), count: all.length - 3 });
    await put(first.keys[2]!, 1);
    await call("DELETE", at("000 came in front"));
  });

  test.each([
    ["filter=a.>.b", "invalid_filter"],
    ["filter=", "invalid_filter"],
    ["filter=%FF", "invalid_filter"],
    ["limit=0", "invalid_request"],
    ["limit=10001", "invalid_request"],
    ["limit=x", "invalid_request"],
    ["cursor=*", "invalid_request"],
    ["cursor=", "invalid_request"],
    ["prefix=%C0%AF", "invalid_request"],
  ])("refuses %s", async (query, code) => {
    expect(await call("GET", `${bucket}/keys?${query}`)).toMatchObject(refusal(400, code));
  });

  test("of an empty bucket is empty", async () => {
    await newBucket();
    expect((await call("GET", `${bucket}/keys`)).body).toEqual({ keys: [], count: 0 });
  });

  test("of some thousand keys has each once, also while they are written", async () => {
    await newBucket({ history: 2 });
    const kv = await foreign.kvm.open(`APP_${name}`);
    const keys = Array.from({ length: 3000 }, (_, i) => `key.${String(i).padStart(5, "0")}`);
    for (let i = 0; i < keys.length; i += 500) {
      await Promise.all(keys.slice(i, i + 500).map((key) => kv.put(key, "1")));
    }
    const reading = new AbortController();
    const writer = (async () => {
      for (let i = 0; !reading.signal.aborted; i = (i + 97) % keys.length)
        await kv.put(keys[i]!, "2");
    })();
    try {
      for (let round = 0; round < 5; round++) expect(await keysOf()).toEqual(keys);
    } finally {
      reading.abort();
      await writer;
    }
  });
});

const isKey = (key: string): boolean => {
  try {
    assertKey(key);
    return true;
  } catch (error) {
    if (error instanceof KvError) return false;
    throw error;
  }
};

describe("any key", () => {
  beforeAll(() => newBucket());

  const pieces = [".", "..", "/", "//", "%", "%2F", "?", "#", "&", "+", " ", "=41", "=", "*", ">"];
  pieces.push(
    "\t",
    "\n",
    "\r",
    "\u2028",
    "\\",
    '"',
    "ü",
    "漢",
    "😀",
    "a",
    "B",
    "7",
    ":",
    "keys",
    "\ufeff",
  );
  const keys = fc
    .oneof(
      fc.array(fc.constantFrom(...pieces), { minLength: 1, maxLength: 8 }).map((p) => p.join("")),
      fc.string({ unit: "binary", minLength: 1, maxLength: 30 }),
    )
    .filter(isKey);

  test("makes the round trip by ?key=", async () => {
    await fc.assert(
      fc.asyncProperty(keys, async (key) => {
        const entry = `${bucket}/entry?key=${encodeURIComponent(key)}`;
        expect((await callJson("PUT", entry, key)).status).toBe(200);
        expect((await call("GET", entry)).body).toMatchObject({ key, value: key });
        expect(await keysOf()).toContain(key);
        const history = `${bucket}/history?key=${encodeURIComponent(key)}`;
        expect((await call("GET", history)).body).toMatchObject({ count: 1, entries: [{ key }] });
        expect((await call("DELETE", `${entry}&purge=true`)).status).toBe(204);
        expect(await keysOf()).toEqual([]);
      }),
      { numRuns: 120 },
    );
  });

  test("makes the round trip in the path, wherever the client leaves the path alone", async () => {
    const connection = new Connection(gateway.url);
    const base = new URL(bucket).pathname;
    await fc.assert(
      fc.asyncProperty(keys, fc.boolean(), async (key, rawSlashes) => {
        // URL parsers, the gateway's among them, take such segments away: that is what ?key= is for.
        fc.pre(!/^\.{1,2}$/.test(key) && !(rawSlashes && /(?:^|\/)\.{1,2}(?:\/|$)/.test(key)));
        const encoded = encodeURIComponent(key);
        const path = `${base}/keys/${rawSlashes ? encoded.replaceAll("%2F", "/") : encoded}`;
        const headers = { "Content-Type": "application/json" };
        const written = await connection.send("PUT", path, JSON.stringify(key), headers);
        expect(written).toMatchObject({ status: 200 });
        expect((await connection.send("GET", path)).body).toMatchObject({ key, value: key });
        const history = await connection.send("GET", path.replace("/keys/", "/history/"));
        expect(history.body).toMatchObject({ count: 1, entries: [{ key }] });
        expect((await connection.send("DELETE", `${path}?purge=true`)).status).toBe(204);
      }),
      { numRuns: 200 },
    );
  });

  test("is the same with raw and with encoded slashes", async () => {
    await call("PUT", `${bucket}/keys/a/b//c`, "1");
    expect((await call("GET", `${bucket}/keys/a%2Fb%2F%2Fc`)).body).toMatchObject({
      key: "a/b//c",
    });
    expect((await call("GET", `${bucket}/entry?key=a/b//c`)).body).toMatchObject({ key: "a/b//c" });
  });

  test("is decoded once", async () => {
    await call("PUT", `${bucket}/keys/a%252Fb`, "1");
    expect((await call("GET", `${bucket}/entry?key=a%252Fb`)).body).toMatchObject({ key: "a%2Fb" });
  });

  test("sent as raw UTF-8 is refused rather than taken for another key", async () => {
    const connection = new Connection(gateway.url);
    const raw = Buffer.from("ü漢").toString("latin1");
    const path = `${new URL(bucket).pathname}/keys/${raw}`;
    expect((await connection.send("PUT", path, "1")).status).toBe(400);
  });

  test.each([
    ["%FF", "no UTF-8"],
    ["%C0%AF", "overlong UTF-8"],
    ["%ED%A0%80", "a surrogate in UTF-8"],
    ["%", "half an escape"],
    ["%zz", "a wrong escape"],
    ["%00", "NUL"],
    ["a%1Bb", "a control character"],
    ["%C2%85", "a C1 control character"],
    ["a".repeat(513), "513 bytes"],
  ])("is refused as %s: %s", async (part) => {
    for (const path of [`keys/${part}`, `entry?key=${part}`, `history/${part}`]) {
      expect(await call("GET", `${bucket}/${path}`)).toMatchObject(refusal(400, "invalid_key"));
    }
    expect(await call("PUT", `${bucket}/keys/${part}`, "1")).toMatchObject(
      refusal(400, "invalid_key"),
    );
  });

  test("must not be empty", async () => {
    for (const path of ["keys/", "entry", "entry?key=", "history", "history/"]) {
      expect(await call("GET", `${bucket}/${path}`)).toMatchObject(refusal(400, "invalid_key"));
    }
  });

  test("of 512 bytes is taken", async () => {
    const key = "ü".repeat(256);
    expect((await put(key, 1)).status).toBe(200);
    expect((await get(key)).body).toMatchObject({ key });
  });
});

describe("sizes", () => {
  beforeAll(() => newBucket());

  /** What the gateway itself says is the most it takes. */
  async function mostOf(connection: Connection, path: string): Promise<number> {
    const answer = await connection.send("PUT", path, Buffer.alloc(2 * 1024 * 1024));
    expect(answer).toMatchObject({ status: 413, body: { code: "value_too_large" } });
    return (answer.body as { details: { limit: number } }).details.limit;
  }

  test("up to the server's payload limit are stored; beyond it is 413 and the connection lives on", async () => {
    const connection = new Connection(gateway.url);
    const path = `${new URL(bucket).pathname}/keys/large`;
    const most = await mostOf(connection, path);
    expect(most).toBeGreaterThan(1024 * 1024 * 0.99);
    const fits = await connection.send("PUT", path, Buffer.alloc(most, "x"));
    expect(fits.status).toBe(200);
    const beyond = await connection.send("PUT", path, Buffer.alloc(most + 1));
    expect(beyond).toMatchObject({ status: 413, body: { code: "value_too_large" } });
    const read = await connection.send("GET", `${path}?raw=true`);
    expect(read.bytes.equals(Buffer.alloc(most, "x"))).toBe(true);
    expect(new Set([fits, beyond, read].map((answer) => answer.connection)).size).toBe(1);
  });

  test("are counted in chunked bodies without Content-Length, too", async () => {
    const connection = new Connection(gateway.url);
    const path = `${new URL(bucket).pathname}/keys/chunked`;
    const most = await mostOf(connection, path);
    const parts = (total: number): Buffer[] =>
      Array.from({ length: Math.ceil(total / 50_000) }, (_, i) =>
        Buffer.alloc(Math.min(50_000, total - i * 50_000), "y"),
      );
    const beyond = await connection.send("PUT", path, parts(most + 1));
    expect(beyond).toMatchObject({ status: 413, body: { code: "value_too_large" } });
    const fits = await connection.send("PUT", path, parts(most));
    expect(fits.status).toBe(200);
    const read = await connection.send("GET", `${path}?raw=true`);
    expect(read.bytes.length).toBe(most);
    expect(new Set([beyond, fits, read].map((answer) => answer.connection)).size).toBe(1);
  });

  test("of a body that is refused for another reason leave the connection alive, too", async () => {
    const connection = new Connection(gateway.url);
    const base = new URL(bucket).pathname;
    const body = Buffer.alloc(900_000);
    const refused = [
      await connection.send("PUT", `${base}/keys/%FF`, body),
      await connection.send("PUT", `${base}/keys/k`, body, { "If-Match": "x" }),
      await connection.send("PUT", "/nowhere", body),
      await connection.send("POST", `${base}/keys/k`, body),
    ];
    expect(refused.map(({ status }) => status)).toEqual([400, 400, 404, 405]);
    const after = await connection.send("GET", "/health");
    expect(after).toMatchObject({ status: 200, connection: refused[0]!.connection });
  });

  test("many large values can be read at once", async () => {
    const value = Buffer.alloc(900_000, "z");
    const keys = Array.from({ length: 80 }, (_, i) => `big.${i}`);
    for (const key of keys) await call("PUT", at(key), value);
    const answers = await Promise.all(keys.map((key) => fetch(at(key, "raw=true"))));
    expect(answers.map(({ status }) => status)).toEqual(keys.map(() => 200));
    for (const answer of answers) expect((await answer.arrayBuffer()).byteLength).toBe(900_000);
  });

  test("are limited by max_value_size to the byte, whatever key and type", async () => {
    await newBucket({ max_value_size: 1000 });
    const key = "k".repeat(500);
    for (const type of ["text/plain", "application/octet-stream", `x/${"y".repeat(200)}`]) {
      const headers = { "Content-Type": type };
      const fits = await call("PUT", at(key), "x".repeat(1000), headers);
      expect(fits.status).toBe(200);
      expect(await call("PUT", at(key), "x".repeat(1001), headers)).toMatchObject(
        refusal(413, "value_too_large"),
      );
    }
    expect((await call("PUT", at("ü"), "ü".repeat(501))).status).toBe(413);
  });

  test("of content types are limited: one that is too long is refused, and breaks nothing", async () => {
    await newBucket();
    const headers = { "Content-Type": `text/${"x".repeat(9000)}` };
    const connection = new Connection(gateway.url);
    const path = `${new URL(bucket).pathname}/keys/typed`;
    for (const size of [1, 1_044_000]) {
      const answer = await connection.send("PUT", path, Buffer.alloc(size), headers);
      expect(answer).toMatchObject({ status: 415, body: { code: "unsupported_media_type" } });
    }
    expect((await connection.send("PUT", path, "1")).status).toBe(200);
  });

  test("of a bucket are limited by max_bytes: a full one answers 507, and takes smaller values again", async () => {
    await newBucket({ max_bytes: 10_000 });
    const value = "x".repeat(3000);
    const statuses: number[] = [];
    for (let i = 0; i < 6; i++) statuses.push((await call("PUT", at(`k${i}`), value)).status);
    expect(statuses.slice(0, 3)).toEqual([200, 200, 200]);
    expect(await call("PUT", at("more"), value)).toMatchObject(refusal(507, "bucket_full"));
    expect((await call("DELETE", at("k0"))).status).toBe(204);
    expect((await call("PUT", at("more"), "x".repeat(2000))).status).toBe(200);
  });
});
