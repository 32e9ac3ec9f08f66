import pino from "pino";
import { createServer, type GatewayServer } from "../../server.ts";
import {
  isLoopback,
  readSettings,
  SettingsError,
  settingsHelp,
  type Settings,
} from "../../settings.ts";

export const serveHelp = `serve: run the gateway (the default). Without --nats-url it runs a NATS server of its own.
Each flag has an environment variable; a flag wins over it.

${settingsHelp()}

NATS_SERVER_BIN names the nats-server program to run; else one from the PATH, the cache, the official release or
Debian's next release is taken. JETBUCKET_CACHE_DIR says where a fetched one is kept.`;

/** A shutdown that takes longer than this, in milliseconds, is cut short. */
const SHUTDOWN = 5_000;

/** Runs the gateway until it is told to stop. Resolves with the exit code. */
export async function serve(args: readonly string[]): Promise<number> {
  let settings: Settings;
  try {
    settings = readSettings(args, process.env);
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    process.stderr.write(`jetbucket: ${error.message}\nsee jetbucket --help\n`);
    return 2;
  }
  // Before anything is started, so that a Ctrl-C in the middle of the start leaves nothing behind either.
  const stop = nextSignal();
  const log = pino(
    { level: settings.logLevel, base: { service: "jetbucket" } },
    pino.destination({ dest: 1, sync: true }),
  );
  let gateway: GatewayServer;
  try {
    gateway = await createServer(settings, log);
  } catch (error) {
    process.stderr.write(`jetbucket: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
  announce(gateway, settings);
  log.info({ url: gateway.url, nats: gateway.nats }, "ready");

  const why = await Promise.race([stop, gateway.failed]);
  if (why instanceof Error) log.fatal({ err: why }, "cannot go on");
  else log.info({ signal: why }, "shutting down");
  const cut = setTimeout(() => {
    log.error("the shutdown took too long and was cut short");
    process.exit(1);
  }, SHUTDOWN);
  await gateway.close();
  clearTimeout(cut);
  log.info("stopped");
  return why instanceof Error ? 1 : 0;
}

function announce(gateway: GatewayServer, settings: Settings): void {
  const { nats } = gateway;
  const lines = [
    `jetbucket  ${gateway.url}`,
    `NATS       ${nats.url}, nats-server ${nats.version}${nats.embedded ? " (embedded)" : ""}`,
    ...(nats.dataDir === undefined ? [] : [`data       ${nats.dataDir}`]),
    accessLine(gateway, settings),
  ];
  process.stderr.write(`\n  ${lines.join("\n  ")}\n\n`);
}

function accessLine({ wantsCredentials }: GatewayServer, { host, insecure }: Settings): string {
  if (wantsCredentials) return "access     by API key or token";
  // Behind --insecure on loopback nobody is let in who would not be without it.
  return insecure && !isLoopback({ host })
    ? "access     INSECURE: whoever reaches the port may do everything"
    : "access     everything is allowed, from this machine only";
}

function nextSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
      process.once(signal, () => resolve(signal));
  });
}
