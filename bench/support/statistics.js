/** The value in the middle of some numbers; the mean of the two in the middle of an even count. */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Between which two of some numbers the median of all such numbers lies, nine times of ten: nothing is assumed about how they are
 * spread, so a few that are far off do no harm.
 *
 * @returns {[number, number]}
 */
export function medianInterval(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const { length } = sorted;
  const outside = Math.max(0, Math.floor((length - 1.64 * Math.sqrt(length)) / 2));
  return [sorted[outside], sorted[length - 1 - outside]];
}
