/** Longest pause, in milliseconds. */
const LONGEST = 50;

/** Waits a little before another attempt at a lost race: longer and more at random the more often one was lost. */
export function pause(attempt: number): Promise<void> {
  const longest = Math.min(LONGEST, attempt);
  return new Promise((resolve) => setTimeout(resolve, Math.random() * longest));
}
