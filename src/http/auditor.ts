import type { IncomingMessage, ServerResponse } from "node:http";
import type { Audit } from "../audit/audit.ts";
import type { Principal } from "../auth/principal.ts";
import type { AuditSubject, Outcome } from "../protocol/audit.ts";
import { environmentOf } from "../protocol/messages.ts";
import { actionOf, redacted } from "./actions.ts";
import type { AddressOf } from "./address.ts";
import { noteOf, takeNote, type Note } from "./note.ts";

/** What of a request is recorded. */
export type Request = Partial<Pick<IncomingMessage, "method" | "url" | "headers">>;

/** What a record says beside that. */
export interface Told extends Partial<Note> {
  principal: Principal;
  address?: string | undefined;
}

export interface AuditorOptions {
  /** Whether reads of keys are recorded, too. */
  reads: boolean;
  /** Whether anything is recorded now. */
  isOn: () => boolean;
  addressOf: AddressOf;
}

/** Keys of a request that are named in its record. */
const KEYS = 10;

/** Tells the audit what requests did: nothing of what they brought or got. */
export class Auditor {
  readonly #audit: Audit;
  readonly #options: AuditorOptions;

  constructor(audit: Audit, options: AuditorOptions) {
    this.#audit = audit;
    this.#options = options;
  }

  get isOn(): boolean {
    return this.#options.isOn();
  }

  /** Records a request when it has been answered, or given up. */
  follow(incoming: IncomingMessage, outgoing: ServerResponse): void {
    if (!this.isOn) return;
    const note = takeNote(incoming);
    outgoing.on("close", () => {
      if (!note.isTold)
        this.#tell(incoming, outgoing.headersSent ? outgoing.statusCode : undefined, note);
    });
  }

  /** Records a request that goes on for as long as its client wants, at its beginning. */
  began(incoming: IncomingMessage, status: number, principal: Principal): void {
    const note = noteOf(incoming);
    if (note !== undefined) note.isTold = true;
    if (this.isOn) this.#tell(incoming, status, { principal });
  }

  /** Records something that is no request by itself, or was no whole one. */
  record(request: Request, status: number, told: Told): void {
    if (!this.isOn) return;
    const outcome = outcomeOf(status);
    this.#record(request, outcome, status, told);
  }

  #tell(incoming: IncomingMessage, status: number | undefined, told: Told): void {
    const outcome = status === undefined ? "unknown" : outcomeOf(status);
    const { method = "GET", url = "" } = incoming;
    // The most frequent ones by far, and quickly told apart.
    if (outcome !== "refused" && !this.#options.reads && isPlainRead(method, url)) return;
    told.address = this.#options.addressOf(incoming);
    this.#record(incoming, outcome, status ?? 0, told);
  }

  #record(
    request: Request,
    outcome: Outcome,
    status: number,
    { principal, subject, code, requestId, address }: Told,
  ): void {
    const { method = "GET", url = "" } = request;
    const action = actionOf(method, url, () => environmentIn(request, principal));
    if (action.isReading && outcome !== "refused" && !this.#options.reads) return;
    this.#audit.record({
      time: new Date().toISOString(),
      principal: { kind: principal.kind, id: principal.id },
      action: action.action,
      bucket: subject?.bucket === undefined ? action.bucket : redacted(subject.bucket),
      key: action.key,
      keys: subject?.keys?.map(redacted),
      count: subject?.count,
      environment: action.environment,
      name: subject?.name === undefined ? action.name : redacted(subject.name),
      path: action.path,
      outcome,
      status,
      code,
      request_id: requestId,
      address,
    });
  }
}

/** The keys of a request with many. */
export function keysSubject(keys: readonly string[]): AuditSubject {
  return { keys: keys.slice(0, KEYS), count: keys.length };
}

function isPlainRead(method: string, url: string): boolean {
  return method === "GET" && /^\/api\/v1\/kv\/buckets\/[^/]+\/(?:keys|entry|history)\b/.test(url);
}

function outcomeOf(status: number): Outcome {
  if (status < 400) return "ok";
  return status === 401 || status === 403 || status === 429 ? "refused" : "failed";
}

function environmentIn(
  { headers = {}, url = "" }: Request,
  { environment }: Principal,
): string | undefined {
  const header = headers["x-ironflow-environment"];
  const start = url.indexOf("?");
  const asked =
    typeof header === "string"
      ? header
      : new URLSearchParams(start === -1 ? "" : url.slice(start)).get("environment");
  try {
    return environmentOf(asked ?? undefined, environment);
  } catch {
    return undefined;
  }
}
