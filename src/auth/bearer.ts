const BEARER = /^bearer +(\S+) *$/i;
const IN_PROTOCOLS = "bearer.";

/**
 * The key or token of a request: in `Authorization`, or, where a browser can set no headers, among the subprotocols that it offers.
 *
 * @returns undefined when there is none
 */
export function bearerOf(
  authorization: string | undefined,
  protocols: string | undefined,
): string | undefined {
  if (authorization !== undefined) return BEARER.exec(authorization)?.[1];
  if (protocols === undefined) return undefined;
  const offered = protocols.split(",").map((name) => name.trim());
  return offered.find((name) => name.startsWith(IN_PROTOCOLS))?.slice(IN_PROTOCOLS.length);
}
