import { existsSync } from "node:fs";

import { connect } from "nats";
import { afterAll, beforeAll, expect, test } from "vitest";

import { isRunning } from "../../../src/nats/processes.ts";
import { startTestNats, type TestNats } from "../../support/nats.ts";

let shared: TestNats;
let inTest: TestNats;

beforeAll(async () => {
  shared = await startTestNats();
});

afterAll(() => {
  // Registered after the support module's own, and so run before it.
  expect(existsSync(shared.dataDir)).toBe(true);
});

test("restarts on the same port, also after a crash", async () => {
  inTest = await startTestNats();
  const { url, pid } = inTest;
  await inTest.restart();
  await inTest.kill();
  await inTest.restart();
  expect(inTest.pid).not.toBe(pid);
  expect(inTest.url).toBe(url);
  await (await connect({ servers: url })).close();
});

test("has removed what the previous test started, and kept what the file shares", async () => {
  expect(await isRunning(inTest.pid)).toBe(false);
  expect(existsSync(inTest.dataDir)).toBe(false);
  expect(await isRunning(shared.pid)).toBe(true);
});

test("answers nothing while paused, and everything afterwards", async () => {
  const nats = await startTestNats();
  const connection = await connect({ servers: nats.url });
  nats.pause();
  // The signal takes a moment: only once nobody is let in any more is the server suspended for sure.
  const refused = () =>
    expect(connect({ servers: nats.url, timeout: 200, reconnect: false })).rejects.toThrow();
  await refused();
  let answered = false;
  const answer = connection.flush().then(() => (answered = true));
  await refused();
  expect(answered).toBe(false);
  nats.resume();
  await answer;
  await connection.close();
});
