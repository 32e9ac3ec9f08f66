/** What the writers tried, whether or not an answer came. */
import type { Life, LogEntry } from "./log.ts";

export interface Attempt {
  bucket: string;
  key: string;
  operation: "put" | "delete";
  /** Of a put; see values.ts. */
  digest?: string;
  /** Milliseconds since 1970. */
  sent: number;
  answered?: number;
  /** What the answer said. A delete over HTTP is answered without a revision. */
  revision?: number;
}

export class Attempts {
  readonly all: Attempt[] = [];
  readonly #byDigest = new Map<string, Attempt>();

  add(attempt: Attempt): Attempt {
    this.all.push(attempt);
    if (attempt.digest !== undefined) this.#byDigest.set(attempt.digest, attempt);
    return attempt;
  }

  /** Whether somebody can have written this, so far as anybody knows by `at`. */
  explains(
    entry: Pick<LogEntry, "key" | "operation" | "digest">,
    bucket: string,
    at: number,
  ): boolean {
    if (entry.operation === "put") {
      const attempt = this.#byDigest.get(entry.digest ?? "");
      return attempt?.bucket === bucket && attempt.key === entry.key && attempt.sent <= at;
    }
    return this.all.some(
      ({ bucket: of, key, operation, sent }) =>
        of === bucket && key === entry.key && operation === "delete" && sent <= at,
    );
  }

  /** Writes that were acknowledged with a revision and are not in the log as they were acknowledged. */
  *lost(lives: readonly Life[]): Generator<Attempt> {
    for (const attempt of this.all) {
      const { bucket, key, digest, revision, sent, answered } = attempt;
      if (revision === undefined || answered === undefined) continue;
      const possible = lives.filter(
        (life) => life.bucket === bucket && life.from <= answered && sent <= life.to,
      );
      const isThere = possible.some((life) => {
        const entry = life.at(revision);
        return entry === undefined
          ? life.last >= revision
          : entry.key === key && (digest === undefined || entry.digest === digest);
      });
      if (!isThere) yield attempt;
    }
  }
}
