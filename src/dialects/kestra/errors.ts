import type { KvError } from "../../protocol/errors.ts";

/** An error as Kestra tells it. What is wrong with a request is 422 there. */
export function kestraErrorForm({ status, message }: KvError): {
  status: number;
  body: { message: string };
} {
  switch (status) {
    case 400:
      return { status: 422, body: { message: `Illegal argument: ${message}` } };
    case 404:
      return { status, body: { message: `Not Found: ${message}` } };
    default:
      return { status, body: { message } };
  }
}
