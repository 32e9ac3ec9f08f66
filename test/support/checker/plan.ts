/** What a run will do: all of it follows from the seed. */
import { Random } from "../model-random.ts";
import type { ClientPlan } from "./client.ts";
import type { FaultKind } from "./faults.ts";
import { FILTERS } from "./keys.ts";
import type { Transport } from "./links.ts";
import type { BucketPlan } from "./writers.ts";

export interface Plan {
  seed: number;
  /** What the names of its buckets begin with. */
  prefix: string;
  buckets: BucketPlan[];
  gateways: number;
  /** Whether gateways are processes of their own, so that they can be killed. */
  asProcesses: boolean;
  writers: number;
  /** Milliseconds between two writes of a writer, at most. */
  rest: number;
  /** Bytes of large values; 0 for none. */
  heavy: number;
  clients: ClientPlan[];
  /** Milliseconds of writing. */
  duration: number;
  faults: { at: number; kind: FaultKind }[];
  /** How long clients may take to know everything once nothing is written any more, in milliseconds. */
  convergence: number;
}

const CONVERGENCE = 25_000;

/** What a seed does not decide when it is given. */
export type PlanOptions = Partial<
  Pick<Plan, "asProcesses" | "duration" | "faults" | "heavy" | "rest">
> & {
  transports?: readonly Transport[];
  clients?: number;
  prefix?: string;
  convergence?: number;
};

export function planOf(seed: number, options: PlanOptions = {}): Plan {
  const random = new Random(seed * 7919 + 17);
  const { prefix = "b", convergence = CONVERGENCE } = options;
  const isMemory = random.chance(0.25);
  const buckets = random.some([1, 5, 64], 2).map((history, i): BucketPlan => ({
    name: `${prefix}${i}`,
    history,
    storage: i === 1 && isMemory ? "memory" : "file",
  }));
  const isOutside = random.chance(0.15);
  const asProcesses = options.asProcesses ?? isOutside;
  const weight = random.chance(0.25) ? random.int(20_000, 80_000) : 0;
  const heavy = options.heavy ?? weight;
  const length = random.int(2_000, 5_000);
  const duration = options.duration ?? length;
  const gateways = random.int(2, 3);
  const writers = random.int(3, 5);
  const anyRest = random.pick([5, 20, 40, 80]);
  const rest = options.rest ?? anyRest;
  const kinds: (readonly [number, FaultKind])[] = [
    [4, "nats paused"],
    [4, "nats restarted"],
    [1, "consumers deleted"],
    [3, "bucket re-created by API"],
    [3, "bucket re-created by NATS"],
    [3, "gateway closed"],
    [asProcesses ? 8 : 0, "gateway killed"],
    [3, "line cut"],
    [4, "line stalled"],
    [3, "tombstones compacted"],
  ];
  const count = random.weighted([
    [3, 0],
    [3, 1],
    [3, 2],
    [2, 3],
  ]);
  const faults =
    options.faults ??
    Array.from({ length: count }, () => ({
      at: random.int(300, duration),
      kind: random.weighted(kinds),
    })).sort((a, b) => a.at - b.at);
  const transports: (readonly [number, Transport])[] = [
    [3, "plain"],
    [5, "extended"],
    [3, "multiplexed"],
    [3, "sse"],
  ];
  const allowed = transports.filter(([, of]) => options.transports?.includes(of) ?? true);
  const clients = Array.from(
    { length: options.clients ?? random.int(9, 15) },
    (_, i): ClientPlan => {
      const transport = random.weighted(allowed);
      return {
        name: `${transport} ${i}`,
        transport,
        watch: {
          bucket: random.pick(buckets).name,
          filters: random.pick(FILTERS),
          include: random.weighted([
            [6, "snapshot"],
            [2, "updates"],
            [2, "history"],
          ]),
          values: !random.chance(0.2),
        },
        isSlow: random.chance(heavy > 0 ? 0.5 : 0.15),
        patience: random.pick([200, 600, 1_500, 4_000, 20_000]),
      };
    },
  );
  return {
    seed,
    prefix,
    convergence,
    buckets,
    gateways,
    asProcesses,
    writers,
    rest,
    heavy,
    clients,
    duration,
    faults,
  };
}

export function describePlan({
  seed,
  buckets,
  faults,
  heavy,
  asProcesses,
  duration,
  gateways,
}: Plan): string {
  const kinds = buckets.map(
    ({ name, history, storage }) => `${name} history ${history} ${storage}`,
  );
  return (
    `seed ${seed}: ${kinds.join(", ")}; ${gateways} gateways${asProcesses ? " as processes" : ""}` +
    `${heavy > 0 ? "; heavy" : ""}; ${duration} ms; ` +
    (faults.length === 0
      ? "no faults"
      : faults.map(({ at, kind }) => `${kind} at ${at}`).join(", "))
  );
}
