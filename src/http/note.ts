import type { IncomingMessage } from "node:http";
import { nobody, type Principal } from "../auth/principal.ts";
import type { AuditSubject } from "../protocol/audit.ts";
import { KvError } from "../protocol/errors.ts";

/** What becomes known of a request on its way, for the audit. */
export interface Note {
  principal: Principal;
  /** What it is about, where only its body says that. */
  subject?: AuditSubject;
  /** Of the error that answers it. */
  code?: string;
  /** As the answer has it. */
  requestId?: string;
  /** Whether there is a record of it already. */
  isTold: boolean;
}

// On the request itself, so that those of which nothing is noted cost a look at a property that is not there.
const NOTE = Symbol("note");
type Noted = object & { [NOTE]?: Note };

/** Begins to take notes of a request. */
export function takeNote(incoming: Noted): Note {
  const note: Note = { principal: nobody, isTold: false };
  incoming[NOTE] = note;
  return note;
}

/** What is known of a request; undefined where nobody wants to know. */
export function noteOf(incoming: Noted): Note | undefined {
  return incoming[NOTE];
}

/** Says what a request is about whose address does not. */
export function isAbout(
  { env: { incoming } }: { env: { incoming: IncomingMessage } },
  subject: AuditSubject,
): void {
  const note = noteOf(incoming);
  if (note !== undefined) note.subject = subject;
}

/** Notes what went wrong. */
export function noteError(incoming: Noted, thrown: unknown, requestId: string): void {
  const note = noteOf(incoming);
  if (note === undefined) return;
  note.code = codeOf(thrown);
  note.requestId = requestId;
}

/** The code under which something that was thrown leaves the gateway. */
export function codeOf(thrown: unknown): string {
  return thrown instanceof KvError ? thrown.code : "internal";
}
