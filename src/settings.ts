/**
 * What the gateway can be told: one table for flags, environment variables and the help text, so that none of them can
 * say something else than the others.
 */
import { createSecretKey, type KeyObject } from "node:crypto";
import { parseArgs } from "node:util";
import { z } from "zod";

/** A flag or variable that is wrong, named. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
}

const port = z
  .string()
  .regex(/^\d{1,5}$/, "expects a port number from 0 to 65535")
  .transform(Number)
  .refine((number) => number <= 65_535, "expects a port number from 0 to 65535");
const count = z
  .string()
  .regex(/^[1-9]\d{0,8}$/, "expects a whole number from 1 on")
  .transform(Number);
const units = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
/** In milliseconds. */
const time = z
  .string()
  .regex(/^[1-9]\d{0,4}[mhd]$/, "expects a time such as 30m, 12h or 90d")
  .transform((text) => Number(text.slice(0, -1)) * units[text.slice(-1) as keyof typeof units]);
const sizes = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const;
/** In bytes. */
const size = z
  .string()
  .regex(/^[1-9]\d{0,5}(?:KiB|MiB|GiB)$/, "expects a size such as 64MiB or 2GiB")
  .transform((text) => Number(text.slice(0, -3)) * sizes[text.slice(-3) as keyof typeof sizes]);
const boolean = z
  .enum(["true", "false", "1", "0", ""])
  .transform((value) => value === "true" || value === "1" || value === "");
const list = z.string().transform((value) =>
  value
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== ""),
);
const natsServer = z
  .string()
  .regex(
    /^(?:(?:nats|tls|ws|wss):\/\/)?[^\s/]+(?::\d+)?\/?$/,
    "expects an address such as nats://127.0.0.1:4222",
  );
const origin = z
  .string()
  .regex(/^(?:\*|https?:\/\/[^/\s]+\/?)$/, "expects origins such as https://app.example.com");

const masterKeys = list
  .pipe(
    z.array(
      z
        .string()
        .regex(/^[0-9a-f]{64}$/i, "expects keys of 64 hex digits, made by: openssl rand -hex 32"),
    ),
  )
  // Key objects do not show what they hold, whoever prints the settings or dumps the heap.
  .transform((keys) => keys.map((key) => createSecretKey(key, "hex")))
  .refine((keys): keys is [KeyObject, ...KeyObject[]] => keys.length > 0, "holds no key");

/** Shortest root key, in characters: it has to be random, too, which nobody can check. */
const ROOT_KEY = 32;
const rootKey = z
  .string()
  .min(
    ROOT_KEY,
    `is too short: at least ${ROOT_KEY} random characters, made by: openssl rand -hex 32`,
  )
  .regex(
    /^[\x21-\x7e]+$/,
    "has to be of printable ASCII characters without spaces: it travels in a header",
  )
  .transform((key) => createSecretKey(key, "utf8"));

interface Option<T> {
  flag: string;
  env: string;
  /** What stands for the value in the help; a flag without one takes no value. */
  value?: string;
  help: string;
  /** Whether it may hold a credential, which must not be repeated in a message. */
  secret?: true;
  schema: z.ZodType<T, string | undefined>;
}

const option = <T>(definition: Option<T>): Option<T> => definition;

const table = {
  port: option({
    flag: "port",
    env: "PORT",
    value: "number",
    help: "port of the gateway; 0 takes a free one (default: 9123)",
    schema: port.default(9123),
  }),
  host: option({
    flag: "host",
    env: "HOST",
    value: "address",
    help: "address to listen on (default: 127.0.0.1); another than loopback needs a root key, or --insecure",
    schema: z.string().min(1).default("127.0.0.1"),
  }),
  insecure: option({
    flag: "insecure",
    env: "JETBUCKET_INSECURE",
    help: "listen on any address although whoever reaches the port may do everything",
    schema: boolean.default(false),
  }),
  rootKey: option({
    flag: "root-key",
    env: "JETBUCKET_ROOT_KEY",
    value: "key",
    help: "key that may do everything, to make API keys with; from then on nobody comes in without credentials. Better in the environment than on a command line",
    secret: true,
    schema: rootKey.optional(),
  }),
  allowedOrigins: option({
    flag: "allowed-origins",
    env: "JETBUCKET_ALLOWED_ORIGINS",
    value: "list",
    help: "web pages that may use the gateway, by origin, separated by commas; * for all (default: pages of this machine)",
    schema: list.pipe(z.array(origin)).default([]),
  }),
  maxSockets: option({
    flag: "max-sockets",
    env: "JETBUCKET_MAX_SOCKETS",
    value: "number",
    help: "watch sockets at once, streams of events included; more are refused with 503. Each takes a file descriptor and some 10 KB (default: 20000)",
    schema: count.default(20_000),
  }),
  trustProxy: option({
    flag: "trust-proxy",
    env: "JETBUCKET_TRUST_PROXY",
    value: "number",
    help: "how many proxies stand before the gateway: with 1, the last address in X-Forwarded-For is the client's (default: 0, which believes none)",
    schema: z
      .string()
      .regex(/^\d$/, "expects the number of proxies, from 0 to 9")
      .transform(Number)
      .default(0),
  }),
  auditRetention: option({
    flag: "audit-retention",
    env: "JETBUCKET_AUDIT_RETENTION",
    value: "time",
    help: "how long it is kept who did what, such as 90d, 12h or off (default: 90d where credentials are asked for, else off)",
    schema: z.union([z.literal("off"), time]).optional(),
  }),
  auditMaxBytes: option({
    flag: "audit-max-bytes",
    env: "JETBUCKET_AUDIT_MAX_BYTES",
    value: "size",
    help: "how much of that is kept, such as 500MiB; what is oldest goes first (default: 256MiB)",
    schema: size.default(256 * 1024 * 1024),
  }),
  auditReads: option({
    flag: "audit-reads",
    env: "JETBUCKET_AUDIT_READS",
    help: "keep who read what as well, not only writes, secrets, watches and refusals",
    schema: boolean.default(false),
  }),
  maxSocketsEach: option({
    flag: "max-sockets-each",
    env: "JETBUCKET_MAX_SOCKETS_EACH",
    value: "number",
    help: "of them for one principal, and from one address other than this machine's; more are refused with 429 (default: 5000; without credentials no limit)",
    schema: count.default(5_000),
  }),
  rateLimit: option({
    flag: "rate-limit",
    env: "JETBUCKET_RATE_LIMIT",
    value: "number",
    help: 'requests a second of one principal, and from one address other than this machine\'s, twice as many at once; more are refused with 429. "off" for no limit (default: 5000; without credentials no limit)',
    schema: z.union([z.literal("off"), count]).default(5_000),
  }),
  logLevel: option({
    flag: "log-level",
    env: "JETBUCKET_LOG_LEVEL",
    value: "level",
    help: "trace, debug (a line per request), info, warn, error, fatal or silent (default: info)",
    schema: z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).default("info"),
  }),
  dataDir: option({
    flag: "data-dir",
    env: "JETBUCKET_DATA_DIR",
    value: "folder",
    help: "where the embedded NATS server keeps everything (default: ./data)",
    schema: z.string().min(1).default("./data"),
  }),
  natsPort: option({
    flag: "nats-port",
    env: "JETBUCKET_NATS_PORT",
    value: "number",
    help: "port of the embedded NATS server; another free one when it is taken (default: 4222)",
    schema: port.default(4222),
  }),
  sync: option({
    flag: "sync",
    env: "JETBUCKET_SYNC",
    value: "when",
    help: 'when the embedded NATS server flushes to disk: "always", before each answer, or a time such as 2m, which is faster and loses that much in a power failure (default: always)',
    schema: z
      .string()
      .regex(/^(?:always|\d+(?:ms|s|m|h))$/, 'expects "always" or a time such as 500ms, 10s or 2m')
      .default("always"),
  }),
  natsUrl: option({
    flag: "nats-url",
    env: "NATS_URL",
    value: "addresses",
    help: "connect to this server or cluster instead of running one; several are separated by commas",
    secret: true,
    schema: list.pipe(z.array(natsServer).min(1, "names no server")).optional(),
  }),
  natsMonitoring: option({
    flag: "nats-monitoring",
    env: "NATS_MONITORING_URL",
    value: "address",
    help: "monitoring address of that server, http://…:8222, to learn whether it flushes each write to disk",
    schema: z
      .url({ protocol: /^https?$/, error: "expects an address such as http://127.0.0.1:8222" })
      .optional(),
  }),
  natsUser: option({
    flag: "nats-user",
    env: "NATS_USER",
    value: "name",
    help: "user of that server",
    schema: z.string().optional(),
  }),
  natsPassword: option({
    flag: "nats-password",
    env: "NATS_PASSWORD",
    value: "password",
    help: "its password; better in the environment than on a command line",
    secret: true,
    schema: z.string().optional(),
  }),
  natsToken: option({
    flag: "nats-token",
    env: "NATS_TOKEN",
    value: "token",
    help: "token instead of user and password",
    secret: true,
    schema: z.string().optional(),
  }),
  natsCreds: option({
    flag: "nats-creds",
    env: "NATS_CREDS",
    value: "file",
    help: "credentials file of that server",
    schema: z.string().optional(),
  }),
  natsCa: option({
    flag: "nats-ca",
    env: "NATS_CA",
    value: "file",
    help: "certificate authority to trust, in PEM",
    schema: z.string().optional(),
  }),
  natsCert: option({
    flag: "nats-cert",
    env: "NATS_CERT",
    value: "file",
    help: "client certificate, in PEM",
    schema: z.string().optional(),
  }),
  natsKey: option({
    flag: "nats-key",
    env: "NATS_KEY",
    value: "file",
    help: "key of the client certificate, in PEM",
    schema: z.string().optional(),
  }),
  masterKeys: option({
    flag: "master-key",
    env: "JETBUCKET_MASTER_KEY",
    value: "keys",
    help: "key that protects secrets, 64 hex digits; better in the environment than on a command line. Older ones may follow, separated by commas (default: a file made in the data folder; with --nats-url none, and no secrets)",
    secret: true,
    schema: masterKeys.optional(),
  }),
  masterKeyFile: option({
    flag: "master-key-file",
    env: "JETBUCKET_MASTER_KEY_FILE",
    value: "file",
    help: "file of such keys, one a line",
    schema: z.string().optional(),
  }),
} as const;

type Table = typeof table;

/** The gateway's settings, checked and with defaults. */
export type Settings = { [Name in keyof Table]: Table[Name] extends Option<infer T> ? T : never };

/**
 * Reads settings: flags win over the environment, the environment over defaults. An empty variable counts as unset.
 *
 * @throws SettingsError that names the flag or variable
 * @example
 * readSettings(["--port", "8080"], process.env).port; // 8080
 */
export function readSettings(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Settings {
  const flags = readFlags(args);
  const settings: Record<string, unknown> = {};
  for (const [name, each] of Object.entries<Option<unknown>>(table)) {
    const { flag, env: variable, schema, secret } = each;
    const given = flags[flag];
    const fromEnv = env[variable] === "" ? undefined : env[variable];
    const source = given === undefined ? variable : `--${flag}`;
    const result = schema.safeParse(given ?? fromEnv);
    if (!result.success) {
      const problem = result.error.issues[0]?.message ?? "is not allowed";
      const got = secret === true ? "" : ` (got ${JSON.stringify(given ?? fromEnv)})`;
      throw new SettingsError(`${source}: ${problem}${got}`);
    }
    settings[name] = result.data;
  }
  const checked = settings as unknown as Settings;
  checkTogether(checked);
  return checked;
}

function readFlags(args: readonly string[]): Record<string, string | undefined> {
  const options = Object.fromEntries(
    Object.values(table).map((each: Option<unknown>) => [
      each.flag,
      { type: each.value === undefined ? ("boolean" as const) : ("string" as const) },
    ]),
  );
  try {
    const { values } = parseArgs({
      args: [...args],
      options,
      allowPositionals: false,
      strict: true,
    });
    return Object.fromEntries(
      Object.entries(values).map(([flag, value]) => [
        flag,
        typeof value === "string" ? value : String(value),
      ]),
    );
  } catch (error) {
    throw new SettingsError(error instanceof Error ? error.message : String(error));
  }
}

const loopbackHost = /^(?:localhost|127(?:\.\d+){3}|::1)$/;

/** Whether the gateway listens on this machine only. */
export function isLoopback({ host }: Pick<Settings, "host">): boolean {
  return loopbackHost.test(host);
}

function checkTogether(settings: Settings): void {
  if (!isLoopback(settings) && !settings.insecure && settings.rootKey === undefined) {
    throw new SettingsError(
      `--host ${settings.host}: whoever reaches this address could read and write everything; set JETBUCKET_ROOT_KEY so that credentials are asked for, use 127.0.0.1, or add --insecure if something else keeps strangers out`,
    );
  }
  if (settings.masterKeys !== undefined && settings.masterKeyFile !== undefined) {
    throw new SettingsError(
      "JETBUCKET_MASTER_KEY and JETBUCKET_MASTER_KEY_FILE are both set: give one of them",
    );
  }
  if ((settings.natsCert === undefined) !== (settings.natsKey === undefined)) {
    throw new SettingsError(
      "--nats-cert and --nats-key (NATS_CERT and NATS_KEY) go together: one is missing",
    );
  }
}

/** The help text for `--help`. */
export function settingsHelp(): string {
  const rows = Object.values(table).map((each: Option<unknown>) => ({
    flag: `--${each.flag}${each.value === undefined ? "" : ` <${each.value}>`}`,
    env: each.env,
    help: each.help,
  }));
  const width = Math.max(...rows.map(({ flag }) => flag.length));
  return rows
    .map(
      ({ flag, env, help }) => `  ${flag.padEnd(width)}  ${help}\n  ${"".padEnd(width)}  [${env}]`,
    )
    .join("\n");
}
