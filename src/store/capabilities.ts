/** What a NATS server can do for a bucket, by its version. */
export interface Capabilities {
  version: string;
  /** Time to live of single messages, and markers for expired keys: 2.11. */
  messageTtl: boolean;
  /** Reading the last messages of several subjects in one request: 2.11. */
  batchGet: boolean;
  /** Atomic batches: 2.12. */
  atomicBatch: boolean;
}

export function capabilitiesOf(version: string): Capabilities {
  return {
    version,
    messageTtl: isAtLeast(version, 2, 11),
    batchGet: isAtLeast(version, 2, 11),
    atomicBatch: isAtLeast(version, 2, 12),
  };
}

function isAtLeast(version: string, major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}
