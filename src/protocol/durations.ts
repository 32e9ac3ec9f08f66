import { KvError } from "./errors.ts";
import { limits } from "./limits.ts";

/** A time to live in any of the notations that are understood. */
export type Ttl =
  number | string | { value: number; unit: "SECONDS" | "MINUTES" | "HOURS" | "DAYS" };

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const units: Readonly<Record<string, number>> = {
  ms: 1,
  s: SECOND,
  m: MINUTE,
  h: HOUR,
  d: DAY,
  w: 7 * DAY,
};
const unitNames: Readonly<Record<string, number>> = {
  SECONDS: SECOND,
  MINUTES: MINUTE,
  HOURS: HOUR,
  DAYS: DAY,
};

const plain = /^\d+(?:\.\d+)?$/;
const short = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)$/;
const iso =
  /^P(?=\d|T\d)(?:(\d+(?:\.\d+)?)Y)?(?:(\d+(?:\.\d+)?)W)?(?:(\d+(?:\.\d+)?)D)?(?:T(?=\d)(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?$/;

/** Milliseconds of a notation, whatever its size; undefined when it is none. A year has 365 days; months have no length. */
function milliseconds(ttl: Ttl): number | undefined {
  if (typeof ttl === "number") return ttl * SECOND;
  if (typeof ttl === "object") {
    const unit = unitNames[ttl.unit];
    return unit === undefined ? undefined : ttl.value * unit;
  }
  if (plain.test(ttl)) return Number(ttl) * SECOND;
  const shortMatch = short.exec(ttl);
  if (shortMatch !== null) return Number(shortMatch[1]) * units[shortMatch[2]!]!;
  const isoMatch = iso.exec(ttl);
  if (isoMatch === null) return undefined;
  const parts = Array.from(isoMatch, (part: string | undefined) => Number(part ?? 0));
  const [, years = 0, weeks = 0, days = 0, hours = 0, minutes = 0, seconds = 0] = parts;
  return (
    (years * 365 + weeks * 7 + days) * DAY + hours * HOUR + minutes * MINUTE + seconds * SECOND
  );
}

/**
 * Reads a time to live: a number of seconds (`90`, `"90"`), a short form (`90s`, `15m`, `24h`, `7d`), an ISO 8601 duration
 * (`PT1M`, `P1DT12H`), or an object with value and unit (`{ value: 7, unit: "DAYS" }`).
 *
 * @returns seconds, exact to the millisecond
 * @throws KvError `invalid_ttl` when it is none of these, or not between one second and 365 days
 * @example
 * parseTtl("15m"); // 900
 */
export function parseTtl(ttl: Ttl): number {
  const time = milliseconds(ttl);
  if (time === undefined || !Number.isFinite(time)) {
    throw new KvError(
      "invalid_ttl",
      `${JSON.stringify(ttl)} is not a time to live: use seconds, or forms such as "90s", "15m", "24h", "7d" or "PT1M"`,
    );
  }
  if (time < limits.ttlMin || time > limits.ttlMax) {
    throw new KvError(
      "invalid_ttl",
      `a time to live is between 1 second and 365 days, not ${JSON.stringify(ttl)}`,
    );
  }
  return Math.ceil(time) / SECOND;
}
