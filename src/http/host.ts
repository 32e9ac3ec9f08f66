import type { Logger } from "pino";
import type { Host } from "../dialects/host.ts";
import type { Buckets } from "../store/buckets.ts";
import { answer, answerJsonText, principalOf } from "./answer.ts";
import { readBody } from "./body.ts";
import { publicError } from "./errors.ts";
import { requestId } from "./request-id.ts";

/** This gateway as dialects know it. */
export function hostOf(buckets: Buckets, log: Logger): Host {
  return {
    buckets,
    grants: (c) => principalOf(c).grants,
    body: readBody,
    answer: (c, json, status = 200, headers = {}) =>
      json === null ? answer(c, null, status, headers) : answerJsonText(c, json, status, headers),
    publicError: (c, thrown) => publicError(thrown, log, requestId(c)),
  };
}
