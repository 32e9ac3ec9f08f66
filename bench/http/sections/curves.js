import { compare, warmUp } from "../../support/rounds.js";
import { startStack } from "../stack.js";

const CONNECTIONS = [1, 2, 4, 8, 16, 32, 64, 128, 256];

const panels = [
  { title: "GET", load: "get", sync: "2m", names: ["jetbucket", "obvious", "static", "etcd"] },
  { title: "PUT", load: "put", sync: "2m", names: ["jetbucket", "obvious"] },
  {
    title: "PUT, every write flushed to disk",
    load: "put",
    sync: "always",
    names: ["jetbucket", "obvious", "etcd"],
  },
];

/** Throughput against connections, for the plot: one short round for every point. */
export async function curves({ lifetime, folder, say }) {
  const measured = [];
  for (const [i, { title, load, sync, names }] of panels.entries()) {
    const lines = await lifetime.within(async (inner) => {
      const stack = await startStack(inner, {
        folder: `${folder}/${i}`,
        sync,
        against: names.slice(1),
      });
      const contenders = stack.contenders(names, load);
      // etcd has nothing to read yet.
      const fill = names.includes("etcd") ? stack.contenders(["etcd"], "put") : [];
      await warmUp(inner, [...fill, ...contenders], { seconds: 1 });
      const points = [];
      for (const connections of CONNECTIONS) {
        points.push(await compare(inner, contenders, { connections, rounds: 1, seconds: 1 }));
      }
      say(title);
      return contenders.map(({ name }) => ({
        system: name,
        points: points.map(({ [name]: { connections, rps } }) => ({ x: connections, y: rps })),
      }));
    });
    measured.push({ title, unit: "requests/s", across: "connections", lines });
  }
  return { panels: measured };
}
