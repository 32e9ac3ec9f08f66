/** The oldest nats-server that has something that a bucket may use. */
const needs = {
  /** Texts that a stream keeps for whoever made it. */
  metadata: "2.10",
  /** Reading by several filters at once. */
  manyFilters: "2.10",
  compression: "2.10",
  /** Time to live of single messages, and markers for expired keys. */
  messageTtl: "2.11",
  /** Reading the last messages of several subjects in one request. */
  batchGet: "2.11",
  atomicBatch: "2.12",
} as const;

/** Something that not every NATS server can do. */
export type Feature = keyof typeof needs;

/** What a NATS server can do for a bucket, by its version. */
export type Capabilities = { version: string } & Record<Feature, boolean>;

export function capabilitiesOf(version: string): Capabilities {
  const can = (feature: Feature): boolean => isAtLeast(version, needs[feature]);
  return {
    version,
    metadata: can("metadata"),
    manyFilters: can("manyFilters"),
    compression: can("compression"),
    messageTtl: can("messageTtl"),
    batchGet: can("batchGet"),
    atomicBatch: can("atomicBatch"),
  };
}

/** The oldest nats-server that has a feature, for instance `2.12`. */
export function versionNeeded(feature: Feature): string {
  return needs[feature];
}

function isAtLeast(version: string, needed: string): boolean {
  const [major = 0, minor = 0] = numbersOf(needed);
  const [ownMajor = 0, ownMinor = 0] = numbersOf(version);
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}

function numbersOf(version: string): number[] {
  return version.split(".").map((part) => Number.parseInt(part, 10));
}
