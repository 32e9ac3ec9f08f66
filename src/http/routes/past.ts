import type { Context, Hono } from "hono";
import { parseTtl } from "../../protocol/durations.ts";
import { KvError } from "../../protocol/errors.ts";
import { compactSchema, parseWith } from "../../protocol/messages.ts";
import type { Buckets } from "../../store/buckets.ts";
import { compact, difference } from "../../store/past.ts";
import { answerJson, answerJsonText } from "../answer.ts";
import { readOptionalJson } from "../body.ts";
import { entryJson } from "../entry-json.ts";
import { momentOf } from "../input.ts";
import { keyResource, resource } from "../resource.ts";
import { targetOf } from "../target.ts";

const HALF_AN_HOUR = 30 * 60;

/** What a bucket keeps of its past: comparing two moments of a key, and throwing away what was deleted. */
export function pastRoutes(app: Hono, base: string, buckets: Buckets): void {
  const target = targetOf(base, buckets);

  const diff = {
    GET: async (c: Context): Promise<Response> => {
      const { key, open } = target.key(c, "read");
      const from = momentOf(c, "from");
      if (from === undefined) {
        throw new KvError("invalid_request", `"from" is missing: give a revision or a time`, {
          details: { field: "from" },
        });
      }
      const bucket = await open();
      const to = momentOf(c, "to") ?? { time: Date.now() };
      const { isChanged, patch, ...entries } = await difference(bucket, key, from, to);
      const [before, after] = [entries.from, entries.to].map((entry) =>
        entry === undefined ? "null" : entryJson(entry),
      );
      const change = patch === undefined ? "" : `,"merge_patch":${JSON.stringify(patch)}`;
      const body = `{"key":${JSON.stringify(key)},"from":${before},"to":${after},"changed":${isChanged}${change}}`;
      return answerJsonText(c, body);
    },
  };
  keyResource(app, `${base}/:bucket/diff`, diff);

  resource(app, `${base}/:bucket/compact`, {
    POST: async (c) => {
      const { open } = target.administered(c);
      const { older_than: age } = parseWith(compactSchema, await readOptionalJson(c));
      const seconds = age === undefined ? HALF_AN_HOUR : age === 0 ? 0 : parseTtl(age);
      const bucket = await open();
      return answerJson(c, { removed: await compact(bucket, seconds * 1000) });
    },
  });
}
