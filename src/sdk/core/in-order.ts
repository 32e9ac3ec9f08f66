/** Something to do, at once or in its own time. It must not fail. */
type Step = () => unknown;

/** Runs steps one after the other: at once, unless an earlier one is not done yet. */
export function inOrder(): (step: Step) => void {
  let last: Promise<unknown> | undefined;
  return (step) => {
    const run = last === undefined ? step() : last.then(step);
    if (!(run instanceof Promise)) return;
    last = run;
    void run.then(() => {
      if (last === run) last = undefined;
    });
  };
}
