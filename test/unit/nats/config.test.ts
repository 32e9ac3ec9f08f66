import { expect, test } from "vitest";

import { quote, renderConfig, type ServerConfig } from "../../../src/nats/config.ts";

const config: ServerConfig = {
  host: "127.0.0.1",
  port: -1,
  name: "jetbucket",
  storeDir: "/data/nats",
  syncInterval: "always",
  logFile: "/data/nats/nats-server.log",
  pidFile: "/data/nats/nats-server.pid",
  portsDir: "/data/nats/ports",
};

test("quotes backslashes, quotes and line ends", () => {
  expect(quote('C:\\my "data"\n\t')).toBe('"C:\\\\my \\"data\\"\\n\\t"');
  expect(quote("/Ünï cödé/'x'")).toBe("\"/Ünï cödé/'x'\"");
});

test("renders where to listen, what to keep, and when to flush", () => {
  const lines = renderConfig(config).split("\n");
  expect(lines).toContain('host: "127.0.0.1"');
  expect(lines).toContain("port: -1");
  expect(lines).toContain('  store_dir: "/data/nats"');
  expect(lines).toContain('  sync_interval: "always"');
});

test("leaves the largest message to the server unless it is given", () => {
  expect(renderConfig(config)).not.toContain("max_payload");
  expect(renderConfig({ ...config, maxPayload: 2_000_000 })).toContain("max_payload: 2000000\n");
});

test("raises the pending limit along with a very large message", () => {
  const large = 100 * 1024 * 1024;
  expect(renderConfig({ ...config, maxPayload: large })).toContain(`max_pending: ${large}\n`);
});

test("appends extra configuration as it is", () => {
  expect(renderConfig({ ...config, extraConfig: "debug: true" })).toMatch(/\ndebug: true\n$/);
});
