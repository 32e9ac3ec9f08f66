/** First words of jetbucket's own paths, now and later: no tenants. */
const reserved = new Set(
  "access api-keys audit buckets capabilities config kv me namespaces secrets tickets tokens watch".split(
    " ",
  ),
);

/** Whether a word in the place of a tenant is none, so that the path is one of jetbucket's. */
export function isReserved(tenant: string): boolean {
  return reserved.has(tenant);
}

const path =
  /^\/api\/v1\/(?:namespaces\/[^/?]+\/kv(?:[/?]|$)|([^/?]+)\/(?:namespaces\/[^/?]+\/kv(?:[/?]|$)|kv(?:\?|$)))/;

/** Whether Kestra's clients ask there. */
export function isKestraPath(url: string): boolean {
  const match = path.exec(url);
  return match !== null && !isReserved(match[1] ?? "");
}
