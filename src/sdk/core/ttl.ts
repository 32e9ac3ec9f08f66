import type { Ttl } from "../../protocol/durations.ts";

export type { Ttl };

/** A time to live as it travels in a query; JSON takes it as it is. The server judges it. */
export function ttlText(ttl: Ttl): string {
  return typeof ttl === "object" ? `${ttl.value}${ttl.unit.charAt(0).toLowerCase()}` : String(ttl);
}
