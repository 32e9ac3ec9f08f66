/** Targets: what has to be reached, and whether it was. */
export const atLeast = (limit, unit, title) => ({
  title,
  unit,
  limit,
  isMet: (value) => value >= limit,
});

export const atMost = (limit, unit, title) => ({
  title,
  unit,
  limit,
  isCeiling: true,
  isMet: (value) => value <= limit,
});

/**
 * What was found out about a target.
 *
 * @param {string} id
 * @param {number} value
 * @param {string} evidence what it was computed from: jetbucket's figure and the baseline's
 */
export function result(id, value, evidence) {
  return { id, value, evidence };
}

/** "ok" or "MISSED". What could not be measured is missed: no number is not a good number. */
export function judge(targets, { id, value }) {
  return Number.isFinite(value) && targets[id].isMet(value) ? "ok" : "MISSED";
}
