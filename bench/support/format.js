const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** `12,345` */
export const count = (number) => whole.format(number);
/** `12,345/s` */
export const rate = (number) => `${count(number)}/s`;
/** `1.23 ms`, `1,234 ms`; what never happened has no time. */
export const milliseconds = (number) =>
  Number.isFinite(number) ? `${number < 100 ? number.toFixed(2) : count(number)} ms` : "none";
/** `1.2 KB`, from bytes */
export const kilobytes = (number) => `${(number / 1024).toFixed(1)} KB`;
/** `12 %` */
export const percent = (number) => (Number.isFinite(number) ? `${number.toFixed(0)} %` : "");
/** `12 µs`; nothing where it could not be measured. */
export const microseconds = (number) => (Number.isFinite(number) ? `${number.toFixed(1)} µs` : "");

/** A number with its unit: `3.21 x`, `0.12 ms`. */
export function quantity(number, unit) {
  if (!Number.isFinite(number)) return "none";
  if (unit === "x") return `${number.toFixed(2)} x`;
  if (unit === "ms") return milliseconds(number);
  if (unit === "KB" || unit === "s") return `${number.toFixed(1)} ${unit}`;
  return `${count(number)} ${unit}`.trimEnd();
}
