import { describe, expect, expectTypeOf, test } from "vitest";
import { KvError } from "../../../src/protocol/errors.ts";
import { createClient, type Entry, type EntryInfo, type Listing } from "../../../src/sdk/node.ts";
import { wireEntry, type SeenRequest } from "./fake-gateway.ts";
import { base, startBucket } from "./support.ts";

/** Answers with pages of two of these keys. */
function pages(keys: string[]) {
  return ({ url }: SeenRequest) => {
    const start = Number(new URL(url, "http://x").searchParams.get("cursor") ?? 0);
    const page = keys.slice(start, start + 2);
    const rest = start + 2 < keys.length ? { next_cursor: String(start + 2) } : {};
    return {
      body: {
        keys: page,
        entries: page.map((key, n) => wireEntry(key, key, start + n + 1)),
        ...rest,
      },
    };
  };
}

describe("a listing", () => {
  test("goes through all pages", async () => {
    const { bucket, asked } = await startBucket(pages(["a", "b", "c", "d", "e"]));
    const seen: unknown[] = [];
    for await (const { key, value } of bucket.list({ prefix: "p&", filter: "a.>", limit: 2 })) {
      seen.push([key, value]);
    }
    expect(seen).toEqual(["a", "b", "c", "d", "e"].map((key) => [key, key]));
    const first = `GET ${base}/keys?prefix=p%26&filter=a.%3E&limit=2&values=true`;
    expect(asked()).toEqual([first, `${first}&cursor=2`, `${first}&cursor=4`]);
  });

  test("asks for nothing before it is read, and for no more once it is left", async () => {
    const { bucket, requests } = await startBucket(pages(["a", "b", "c", "d", "e"]));
    const listing = bucket.list();
    expect(requests).toHaveLength(0);
    for await (const { key } of listing) if (key === "c") break;
    expect(requests).toHaveLength(2);
  });

  test("begins anew each time it is read", async () => {
    const { bucket } = await startBucket(pages(["a", "b", "c"]));
    const listing = bucket.list();
    expect(await listing.toArray()).toHaveLength(3);
    expect(await listing.toArray()).toHaveLength(3);
  });

  test("goes on behind pages whose keys are all gone meanwhile", async () => {
    const { bucket } = await startBucket((_, attempt) => ({
      body:
        attempt === 1
          ? { keys: [], entries: [], next_cursor: "c" }
          : { keys: ["a"], entries: [wireEntry("a", 1, 1)] },
    }));
    expect(await bucket.list().toArray()).toHaveLength(1);
  });

  test("without values tells what else is known", async () => {
    const { bucket, asked } = await startBucket({
      body: {
        entries: [
          {
            key: "a",
            size: 12,
            revision: 3,
            created_at: "t",
            operation: "put",
            first_created_at: "f",
            value_type: "DATE",
          },
        ],
      },
    });
    expect(await bucket.list({ values: false }).toArray()).toEqual([
      {
        key: "a",
        size: 12,
        revision: 3,
        createdAt: "t",
        operation: "put",
        firstCreatedAt: "f",
        valueType: "DATE",
      },
    ]);
    expect(asked()).toEqual([`GET ${base}/keys?limit=1000&metadata=true`]);
  });

  test.each([
    [[true, true], true],
    [[true, false], false],
    [[false, true], false],
    [[undefined], undefined],
  ])("of the past with pages complete as %j is complete: %j", async (parts, complete) => {
    const { bucket, asked } = await startBucket((_, attempt) => ({
      body: {
        entries: [],
        complete: parts[attempt - 1],
        ...(attempt < parts.length ? { next_cursor: "c" } : {}),
      },
    }));
    const listing = bucket.list({ asOf: new Date(0) });
    await listing.toArray();
    expect(listing.complete).toBe(complete);
    expect(asked()[0]).toBe(
      `GET ${base}/keys?limit=100&values=true&as_of=1970-01-01T00%3A00%3A00.000Z`,
    );
  });

  test("rejects where it is read", async () => {
    const body = new KvError("invalid_filter", "no").toBody();
    const { bucket } = await startBucket({ status: 400, body });
    const listing = bucket.list({ filter: ">.a" });
    await expect(listing.toArray()).rejects.toMatchObject({ code: "invalid_filter" });
  });

  test("ends by its signal", async () => {
    const controller = new AbortController();
    const { bucket, requests } = await startBucket(pages(["a", "b", "c"]));
    const seen: string[] = [];
    const read = async () => {
      for await (const { key } of bucket.list({ signal: controller.signal })) {
        seen.push(key);
        controller.abort();
      }
    };
    await expect(read()).rejects.toMatchObject({ code: "aborted" });
    expect(seen).toEqual(["a", "b"]);
    expect(requests).toHaveLength(1);
  });

  test("is typed by what it brings", () => {
    const bucket = createClient().kv().bucket<number>("b");
    expectTypeOf(bucket.list()).toEqualTypeOf<Listing<Entry<number>>>();
    expectTypeOf(bucket.list({ values: true, limit: 3 })).toEqualTypeOf<Listing<Entry<number>>>();
    expectTypeOf(bucket.list({ values: false })).toEqualTypeOf<Listing<EntryInfo>>();
  });
});
