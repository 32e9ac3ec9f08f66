import { expect, test } from "vitest";
import { Turns } from "../../../src/store/turns.ts";

test("who takes a turn waits for those before, also when they fail; other keys do not wait", async () => {
  const turns = new Turns();
  const log: string[] = [];
  let release!: () => void;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const first = turns.take("a", async () => {
    await gate;
    log.push("a1");
    throw new Error("a1 failed");
  });
  const failed = expect(first).rejects.toThrow("a1 failed");
  const second = turns.take("a", async () => log.push("a2"));
  await turns.take("b", async () => log.push("b"));
  expect(log).toEqual(["b"]);
  release();
  await Promise.all([failed, second]);
  expect(log).toEqual(["b", "a1", "a2"]);
});

test("takes the turns of several keys together, whatever their order", async () => {
  const turns = new Turns();
  const log: string[] = [];
  const run = (name: string) => async (): Promise<void> => {
    log.push(`${name} begins`);
    await Promise.resolve();
    log.push(`${name} ends`);
  };
  await Promise.all([
    turns.takeAll(["a", "b"], run("1")),
    turns.takeAll(["b", "a", "b"], run("2")),
    turns.take("b", run("3")),
    turns.takeAll([], run("4")),
  ]);
  const order = log.filter((line) => !line.startsWith("4")).map((line) => line.slice(2));
  expect(order).toEqual(Array(3).fill(["begins", "ends"]).flat());
});
