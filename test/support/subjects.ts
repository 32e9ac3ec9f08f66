/** What NATS itself says of subjects, written anew: tests compare the product with it. */

/** Whether a subject is legal as the subject of a stored message, and in the alphabet that NATS KV allows. */
export function isLegalSubject(subject: string): boolean {
  return subject.split(".").every((token) => /^[-/_=A-Za-z0-9]+$/.test(token));
}

/** Whether a NATS filter covers a subject. */
export function natsCovers(filter: string, subject: string): boolean {
  const wanted = filter.split(".");
  const tokens = subject.split(".");
  for (const [i, token] of wanted.entries()) {
    if (token === ">") return tokens.length > i;
    if (i >= tokens.length || (token !== "*" && token !== tokens[i])) return false;
  }
  return wanted.length === tokens.length;
}
