import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { readSettings, settingsHelp, SettingsError } from "../../src/settings.ts";

function problemWith(args: string[], env: Record<string, string> = {}): string {
  try {
    readSettings(args, env);
  } catch (error) {
    if (error instanceof SettingsError) return error.message;
    throw error;
  }
  throw new Error("the settings were accepted");
}

describe("settings", () => {
  test("have defaults", () => {
    expect(readSettings([], {})).toMatchObject({
      port: 9123,
      host: "127.0.0.1",
      insecure: false,
      allowedOrigins: [],
      maxSockets: 20_000,
      logLevel: "info",
      dataDir: "./data",
      natsPort: 4222,
      sync: "always",
      natsUrl: undefined,
    });
  });

  test("come from the environment, and from flags before it", () => {
    const env = { PORT: "1", JETBUCKET_LOG_LEVEL: "warn", NATS_URL: "nats://a:1, b:2" };
    expect(readSettings([], env)).toMatchObject({
      port: 1,
      logLevel: "warn",
      natsUrl: ["nats://a:1", "b:2"],
    });
    expect(readSettings([], { JETBUCKET_MAX_SOCKETS: "50000" }).maxSockets).toBe(50_000);
    expect(readSettings(["--port", "2", "--nats-url=tls://c:3"], env)).toMatchObject({
      port: 2,
      logLevel: "warn",
      natsUrl: ["tls://c:3"],
    });
  });

  test("take an empty variable for an unset one", () => {
    expect(readSettings([], { PORT: "", NATS_URL: "", JETBUCKET_INSECURE: "" })).toMatchObject({
      port: 9123,
      natsUrl: undefined,
      insecure: false,
    });
  });

  test("ignore variables of others", () => {
    expect(readSettings([], { PORTS: "x", JETBUCKET_UNKNOWN: "y" }).port).toBe(9123);
  });
});

describe("a wrong value is refused by the name under which it was given", () => {
  test.each([
    ["--port", ["--port", "abc"], {}],
    ["--port", ["--port", "65536"], {}],
    ["--port", ["--port=-1"], {}],
    ["--port", ["--port", "1.5"], {}],
    ["--port", ["--port", "0x50"], {}],
    ["--port", ["--port", "1e3"], {}],
    ["--port", ["--port", ""], {}],
    ["PORT", [], { PORT: "http" }],
    ["PORT", [], { PORT: " " }],
    ["--host", ["--host", ""], {}],
    ["--max-sockets", ["--max-sockets", "0"], {}],
    ["--max-sockets", ["--max-sockets", "1e4"], {}],
    ["JETBUCKET_MAX_SOCKETS", [], { JETBUCKET_MAX_SOCKETS: "-1" }],
    ["--log-level", ["--log-level", "loud"], {}],
    ["JETBUCKET_LOG_LEVEL", [], { JETBUCKET_LOG_LEVEL: "INFO" }],
    ["JETBUCKET_INSECURE", [], { JETBUCKET_INSECURE: "maybe" }],
    ["--allowed-origins", ["--allowed-origins", "example.com"], {}],
    ["--allowed-origins", ["--allowed-origins", "https://a.org/path"], {}],
    ["--sync", ["--sync", "sometimes"], {}],
    ["--sync", ["--sync", "10"], {}],
    ["--nats-url", ["--nats-url", "http://localhost"], {}],
    ["--nats-url", ["--nats-url", ""], {}],
    ["NATS_URL", [], { NATS_URL: "," }],
    ["JETBUCKET_NATS_PORT", [], { JETBUCKET_NATS_PORT: "-4222" }],
  ])("%s, in %j %j", (name, args, env) => {
    expect(problemWith(args, env as Record<string, string>)).toMatch(new RegExp(`^${name}\\b.*: `));
  });

  test("also an unknown flag, a flag without its value, and a word too many", () => {
    expect(problemWith(["--prot", "1"])).toContain("--prot");
    expect(problemWith(["--port"])).toContain("--port");
    expect(problemWith(["extra"])).toContain("extra");
    expect(problemWith(["--insecure=yes"])).toContain("--insecure");
  });
});

describe("listening beyond this machine", () => {
  test.each(["0.0.0.0", "::", "192.168.1.5", "example.com", "127.0.0.1.example.com", "localhost."])(
    "on %s needs a root key or --insecure",
    (host) => {
      expect(problemWith(["--host", host])).toContain("--insecure");
      expect(problemWith(["--host", host])).toContain("JETBUCKET_ROOT_KEY");
      expect(readSettings(["--host", host], { JETBUCKET_ROOT_KEY: "k".repeat(32) }).host).toBe(
        host,
      );
      expect(problemWith([], { HOST: host })).toContain(host);
      expect(readSettings(["--host", host, "--insecure"], {}).host).toBe(host);
      expect(readSettings(["--host", host], { JETBUCKET_INSECURE: "true" }).insecure).toBe(true);
    },
  );

  test.each(["127.0.0.1", "127.9.9.9", "::1", "localhost"])("is not what %s does", (host) => {
    expect(readSettings(["--host", host], {})).toMatchObject({ host, insecure: false });
  });
});

describe("secrets", () => {
  test("never stand in a message", () => {
    const secret = "hunter2";
    const cases: [string[], Record<string, string>][] = [
      [["--nats-url", `nats://user:${secret}@bad host`], {}],
      [[], { NATS_URL: `http://user:${secret}@host` }],
      [["--port", "x", "--nats-password", secret, "--nats-token", secret], {}],
      [["--nats-cert", "c"], { NATS_PASSWORD: secret, NATS_TOKEN: secret }],
      [[], { JETBUCKET_ROOT_KEY: secret }],
      [["--root-key", `${secret} ${"x".repeat(32)}`], {}],
      [["--port", "x"], { JETBUCKET_ROOT_KEY: secret.repeat(5) }],
    ];
    for (const [args, env] of cases) expect(problemWith(args, env)).not.toContain(secret);
  });
});

test("a root key is long, and does not show itself", () => {
  expect(problemWith([], { JETBUCKET_ROOT_KEY: "k".repeat(31) })).toMatch(/32.*openssl rand/);
  expect(problemWith([], { JETBUCKET_ROOT_KEY: `${"k".repeat(40)}ü` })).toContain("ASCII");
  expect(readSettings([], { JETBUCKET_ROOT_KEY: "" }).rootKey).toBeUndefined();
  const settings = readSettings([], { JETBUCKET_ROOT_KEY: "k".repeat(32) });
  expect(inspect(settings, { depth: 9, showHidden: true })).not.toContain("kkkk");
  expect(JSON.stringify(settings)).not.toContain("kkkk");
});

test("a client certificate and its key go together", () => {
  expect(problemWith(["--nats-cert", "c.pem"])).toContain("--nats-key");
  expect(problemWith([], { NATS_KEY: "k.pem" })).toContain("NATS_CERT");
});

test("the help names every flag with its variable", () => {
  const help = settingsHelp();
  for (const [flag, variable] of [
    ["--port", "PORT"],
    ["--host", "HOST"],
    ["--nats-url", "NATS_URL"],
    ["--data-dir", "JETBUCKET_DATA_DIR"],
    ["--nats-port", "JETBUCKET_NATS_PORT"],
    ["--log-level", "JETBUCKET_LOG_LEVEL"],
    ["--max-sockets", "JETBUCKET_MAX_SOCKETS"],
  ] as const) {
    expect(help).toMatch(new RegExp(`${flag} <\\w+>[^]*?\\[${variable}\\]`));
  }
});
