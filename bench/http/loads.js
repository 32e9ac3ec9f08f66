/** What is asked of the systems: the same reads and writes of the same keys, in each one's own words. */
export const BUCKET = "bench";
export const KEYS = 1000;

const api = `/api/v1/kv/buckets/${BUCKET}`;
const json = { "Content-Type": "application/json" };

/** A JSON value of 256 bytes. */
export const VALUE = { text: "x".repeat(245) };
const value = JSON.stringify(VALUE);

export const keys = Array.from({ length: KEYS }, (_, i) => `key-${i + 1}`);

/** For jetbucket, the obvious gateway and the static answer, which share their paths. */
export const loads = {
  get: keys.map((key) => ({ method: "GET", path: `${api}/keys/${key}` })),
  put: keys.map((key) => ({
    method: "PUT",
    path: `${api}/keys/${key}`,
    headers: json,
    body: value,
  })),
  // Three reads to one write.
  mixed: keys.flatMap((key, i) => [
    i % 4 === 0
      ? { method: "PUT", path: `${api}/keys/${key}`, headers: json, body: value }
      : { method: "GET", path: `${api}/keys/${key}` },
  ]),
};

/** For etcd's JSON gateway. */
export const etcdLoads = {
  get: keys.map((key) => ({
    method: "POST",
    path: "/v3/kv/range",
    headers: json,
    body: JSON.stringify({ key: btoa(key) }),
  })),
  put: keys.map((key) => ({
    method: "POST",
    path: "/v3/kv/put",
    headers: json,
    body: JSON.stringify({ key: btoa(key), value: btoa(value) }),
  })),
};
