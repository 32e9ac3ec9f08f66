import { expect, test } from "vitest";
import type { HistoryList, PutResult } from "../../src/protocol/messages.ts";
import { call, callJson, startGateway } from "../support/gateway.ts";
import { startTestNats } from "../support/nats.ts";

test("two gateways race 1000 updates of one key: each is applied once, each loser is told the revision", async () => {
  const nats = await startTestNats();
  const gateways = [await startGateway(nats), await startGateway(nats)];
  const [first] = gateways as [(typeof gateways)[0]];
  await callJson("POST", `${first.api}/buckets`, { name: "race", history: 64 });
  const created = await callJson("PUT", `${first.api}/buckets/race/keys/n`, 0);

  const base = (created.body as PutResult).revision;

  let lost = 0;
  const started = performance.now();
  // Two writers to each gateway, 250 updates each. Every update counts one up, so a revision tells the value at it; who
  // loses goes on from the revision that it was told.
  const writers = [...gateways, ...gateways].map(async ({ api }) => {
    let revision = base;
    for (let applied = 0; applied < 250;) {
      const answer = await callJson("PUT", `${api}/buckets/race/keys/n`, revision - base + 1, {
        "If-Match": `"${revision}"`,
      });
      if (answer.status === 200) {
        applied += 1;
        expect((answer.body as PutResult).revision).toBe(revision + 1);
        revision += 1;
        continue;
      }
      lost += 1;
      expect(answer).toMatchObject({ status: 412, body: { code: "revision_mismatch" } });
      const { current_revision: current } = (
        answer.body as { details: { current_revision: number } }
      ).details;
      expect(current).toBeGreaterThan(revision);
      revision = current;
    }
  });
  await Promise.all(writers);
  console.log(`1000 applied, ${lost} lost by 412, ${Math.round(performance.now() - started)} ms`);

  expect(lost).toBeGreaterThan(0);
  for (const { api } of gateways) {
    expect(await call("GET", `${api}/buckets/race/keys/n`)).toMatchObject({
      body: { value: 1000, revision: base + 1000 },
    });
    const { body } = await call("GET", `${api}/buckets/race/history/n`);
    const values = (body as HistoryList).entries.map(({ value }) => value);
    expect(values).toEqual(Array.from({ length: 64 }, (_, i) => 937 + i));
  }
});
