import { jetstream, jetstreamManager, type JetStreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { connect, type NatsConnection } from "nats";
import { onTestFinished } from "vitest";

/** NATS as another client sees it, beside the gateway. */
export interface ForeignClient {
  nats: NatsConnection;
  jsm: JetStreamManager;
  kvm: Kvm;
  close(): Promise<void>;
}

/** Connects another client, with the official libraries. Inside a test it is closed with the test. */
export async function connectForeign(url: string): Promise<ForeignClient> {
  const nats = await connect({ servers: url });
  try {
    onTestFinished(() => nats.close());
  } catch {
    // Connected outside a test: whoever did closes it.
  }
  return {
    nats,
    jsm: await jetstreamManager(nats),
    kvm: new Kvm(jetstream(nats)),
    close: () => nats.close(),
  };
}
