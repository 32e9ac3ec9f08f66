import { milliseconds } from "../../support/format.js";
import { result } from "../../support/targets.js";
import { Contender } from "../contender.js";
import { lossResult, summary } from "../rounds.js";

const SIZE = 1000;

/** A writer at a steady rate: how late do updates arrive, and what does that cost? */
export async function steady({ lifetime, folder, pace, options, say, note }) {
  const warmUp = { rate: 100, lead: 0, seconds: 1.5, settle: 5_000 };
  const contender = (name) => {
    const profile = name === "jetbucket" ? options.profile : undefined;
    return new Contender(lifetime, name, { folder, size: SIZE, warmUp, profile });
  };
  const own = contender("jetbucket");
  const shared = contender("shared");
  const naive = contender("naive");
  const nats = contender("nats");
  const loads = [
    // What falls behind anyway need not be measured at higher rates.
    { rate: 20, against: [shared, nats, naive] },
    { rate: 100, against: [shared, nats] },
    { rate: 500, against: [nats] },
  ];
  const measurements = [];
  for (const { rate, against } of loads) {
    const rounds = new Map([own, ...against].map((each) => [each, []]));
    for (let i = 0; i < pace.rounds; i++) {
      for (const each of rounds.keys()) {
        if (each !== own && i >= pace.sideRounds) continue;
        const round = await each.round({ rate, seconds: pace.steadySeconds });
        say(
          `${rate}/s, ${each.name}: p50 ${milliseconds(round.p50)}, p99 ${milliseconds(round.p99)}`,
        );
        rounds.get(each).push(round);
      }
    }
    // It will not be needed again, and is not idle: its consumers are.
    if (against.includes(naive)) await naive.close();
    for (const [each, some] of rounds) {
      const measurement = summary(
        each.name,
        { load: `${rate} updates/s`, rate, sockets: SIZE },
        some,
      );
      measurements.push(measurement);
      if (measurement.updates < rate * 0.95) {
        note(
          `the writer reached ${measurement.updates.toFixed(0)} of ${rate} updates/s for ${each.name}`,
        );
      }
    }
  }
  const at = (name, wanted) =>
    measurements.find(({ system, rate }) => system === name && rate === wanted);
  const late = (each) => `p50 ${milliseconds(each.p50)}, p99 ${milliseconds(each.p99)}`;
  const slow = at("jetbucket", 20);
  const fast = at("jetbucket", 500);
  // What was not written, or not delivered, at the rate that is asked for says nothing about it.
  const atRate = (each, value) =>
    each.updates >= each.rate * 0.95 && each.deliveries >= each.rate * SIZE * 0.95 ? value : NaN;
  const results = [
    result(
      "steady-20",
      atRate(slow, slow.p99),
      `${late(slow)}; shared ${late(at("shared", 20))}; naive ${late(at("naive", 20))}`,
    ),
    result("steady-500", atRate(fast, fast.p99), `${late(fast)}; nats ${late(at("nats", 500))}`),
    result(
      "steady-500-cpu",
      atRate(fast, fast.share.server),
      `${fast.cpu.server.toFixed(2)} µs a delivery; nats ${at("nats", 500).share.server.toFixed(0)} %`,
    ),
    lossResult(
      "steady-losses",
      measurements.filter(({ system }) => system === "jetbucket"),
    ),
  ];
  const lines = ["jetbucket", "shared", "naive", "nats"].map((system) => ({
    system,
    points: measurements
      .filter((each) => each.system === system && Number.isFinite(each.p99))
      .map(({ rate, p99 }) => ({ x: rate, y: p99 })),
  }));
  const panel = {
    title: "p99, 1000 sockets",
    unit: "ms",
    across: "updates/s",
    lines,
    isLogarithmic: true,
  };
  return { results, measurements, panels: [panel] };
}
