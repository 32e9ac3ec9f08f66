import type { Scope } from "../../src/protocol/scopes.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "./gateway.ts";
import type { TestNats } from "./nats.ts";

const ROOT = "the-root-key-of-these-tests-is-long-enough";

/** Somebody with some rights. */
export interface Asker {
  /** What a request has to have so that it is theirs. */
  headers: Record<string, string>;
  /** Sends a request; a body that is no text is sent as JSON. */
  ask(method: string, path: string, body?: unknown, more?: Record<string, string>): Promise<Answer>;
}

export interface ScopedGateway extends TestGateway {
  /** May do everything. */
  root: Asker;
  /** Somebody who may do what some scopes allow. */
  as(...scopes: Scope[]): Promise<Asker>;
}

/** A gateway that wants credentials. */
export async function startScopedGateway(nats?: TestNats): Promise<ScopedGateway> {
  const flags = ["--root-key", ROOT, "--master-key", "5".repeat(64)];
  const gateway = await startGateway(nats, flags);
  const asker = (credential: string): Asker => {
    const headers = { Authorization: `Bearer ${credential}` };
    return {
      headers,
      ask: (method, path, body, more = {}) => {
        const url = gateway.url + path;
        const all = { ...headers, ...more };
        return body === undefined || typeof body === "string"
          ? call(method, url, body, all)
          : callJson(method, url, body, all);
      },
    };
  };
  const root = asker(ROOT);
  return {
    ...gateway,
    root,
    async as(...scopes) {
      const { status, body } = await root.ask("POST", "/api/v1/tokens", { scopes });
      if (status !== 201) throw new Error(`no token: ${JSON.stringify(body)}`);
      return asker((body as { token: string }).token);
    },
  };
}
