import { compare, warmUp } from "../../support/rounds.js";
import { startStack } from "../stack.js";
import { result } from "../targets.js";

const MEGABYTE = 1024 * 1024;

/** Whether the gateway's memory stays as it is under load. Looks at it every now and then, and judges the highest. */
export async function memory({ lifetime, folder, pace, say }) {
  const stack = await startStack(lifetime, { folder, sync: "2m" });
  const contenders = stack.contenders(["jetbucket"], "mixed");
  await warmUp(lifetime, contenders, { seconds: pace.soakStep });
  const heaps = [await stack.gateway.call("heap")];
  const minutes = (steps) => `${((steps * pace.soakStep) / 60).toFixed(1)} min`;
  for (let step = 0; step < pace.soakSteps; step++) {
    await compare(lifetime, contenders, { connections: 64, rounds: 1, seconds: pace.soakStep });
    heaps.push(await stack.gateway.call("heap"));
    say(`${minutes(step + 1)}: ${megabytes(heaps.at(-1))}`);
  }
  const [first, ...later] = heaps;
  const highest = Math.max(...later);
  const evidence = `${megabytes(first)} at first, ${megabytes(highest)} at most in ${minutes(pace.soakSteps)}`;
  return { results: [result("memory", highest / first, evidence)] };
}

const megabytes = (bytes) => `${(bytes / MEGABYTE).toFixed(2)} MB`;
