/** The composition root: chooses the parts, wires them, and takes them down in order. */
import { createServer as createHttpServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { getRequestListener } from "@hono/node-server";
import type { Logger } from "pino";
import { Audit } from "./audit/audit.ts";
import { Access, type Dismissal } from "./auth/access.ts";
import { ApiKeys } from "./auth/api-keys.ts";
import type { Principal } from "./auth/principal.ts";
import { root, RootKey } from "./auth/root-key.ts";
import { Vault } from "./auth/vault.ts";
import { Configs } from "./configs/configs.ts";
import { ConfigWatches } from "./configs/watches.ts";
import { addressReader } from "./http/address.ts";
import { createApp } from "./http/app.ts";
import { Auditor } from "./http/auditor.ts";
import { answerClientError, httpOptions } from "./http/client-errors.ts";
import { originPolicy } from "./http/origins.ts";
import { RateLimits } from "./http/rate-limits.ts";
import { WatchServer } from "./http/watch.ts";
import { closeCodes } from "./protocol/close-codes.ts";
import { KvError } from "./protocol/errors.ts";
import { limits } from "./protocol/limits.ts";
import { findNatsServer } from "./nats/binary.ts";
import {
  DataFolderInUseError,
  findRunningServer,
  startNatsServer,
  type EmbeddedNatsServer,
} from "./nats/embedded.ts";
import { findMasterKeys } from "./secrets/key-source.ts";
import type { MasterKeys } from "./secrets/master-keys.ts";
import type { Rotation } from "./secrets/rotation.ts";
import { Sealer } from "./secrets/sealer.ts";
import { Secrets } from "./secrets/secrets.ts";
import { isLoopback, type Settings } from "./settings.ts";
import { Buckets } from "./store/buckets.ts";
import { RecordLog } from "./store/record-log.ts";
import { StoreConnection, type NatsOptions } from "./store/connection.ts";
import { Hub } from "./watch/hub.ts";
import type { End } from "./watch/watch.ts";

/** A running gateway. */
export interface GatewayServer {
  /** Where it answers, for instance `http://localhost:9123`. */
  url: string;
  /** Whether nobody gets in without credentials. */
  wantsCredentials: boolean;
  /** The NATS that it stands on. */
  nats: { url: string; version: string; embedded: boolean; dataDir?: string };
  /** Settles when the gateway cannot go on by itself. */
  failed: Promise<Error>;
  /**
   * Shuts down in order, each step bounded: no new work, watchers are told to go elsewhere, requests under way
   * finish, feeds end, NATS drains, the embedded server stops last. May be called again.
   */
  close(): Promise<void>;
}

const AUDIT_STREAM = "SYS_audit";
/** How long it is kept unless the settings say otherwise, in milliseconds: 90 days. */
const AUDIT_RETENTION = 90 * 24 * 3_600_000;
/** How long the monitoring of NATS may take to answer, in milliseconds. */
const MONITORING = 3_000;
/** Largest value with the embedded server, in bytes. */
const MAX_VALUE = 1024 * 1024;
/**
 * Connections that may wait to be accepted. When a gateway goes, all its clients come to another one at once, and those for
 * which there is no room here try again a second later.
 */
const BACKLOG = 4_096;
/** How long requests under way may take once a shutdown has begun, in milliseconds. */
const FINISH = 2_000;

/**
 * Starts a gateway.
 *
 * @example
 * const gateway = await createServer(readSettings([], process.env), pino());
 * console.log(gateway.url);
 * await gateway.close();
 */
export async function createServer(settings: Settings, log: Logger): Promise<GatewayServer> {
  const embedded =
    settings.natsUrl === undefined ? await EmbeddedNats.start(settings, log) : undefined;
  let connection: StoreConnection | undefined;
  try {
    connection = await StoreConnection.open(natsOptions(settings, embedded));
    await learnSync(connection, settings, embedded, log);
    const masters = await masterKeysOf(settings, embedded?.dataDir, log);
    return await serve(settings, log, connection, embedded, masters);
  } catch (error) {
    await connection?.close();
    await embedded?.stop();
    throw error;
  }
}

/** What a rotation did in an environment. */
export interface EnvironmentRotation extends Rotation {
  environment: string;
}

/**
 * Brings the secrets of all environments under the primary master key, beside any gateways that serve them.
 *
 * @param onDone called after each environment
 * @throws KvError `secrets_disabled` without a master key, `store_unavailable`
 * @example
 * await rotateSecrets(readSettings(["--nats-url", url], process.env), pino(), console.log);
 */
export async function rotateSecrets(
  settings: Settings,
  log: Logger,
  onDone: (rotation: EnvironmentRotation) => void,
): Promise<void> {
  await withStore(settings, log, async (buckets, masters) => {
    if (masters === undefined) {
      throw new KvError(
        "secrets_disabled",
        "there is no master key: set JETBUCKET_MASTER_KEY or JETBUCKET_MASTER_KEY_FILE",
      );
    }
    await vaultOf(buckets, masters).reseal();
    const secrets = new Secrets(buckets, masters);
    for (const environment of await secrets.environments()) {
      onDone({ environment, ...(await secrets.rotate(environment)) });
    }
  });
}

/**
 * Works on API keys, beside any gateways that serve, which hear of it. What runs on the data folder already is used as it is.
 *
 * @throws KvError `store_unavailable`
 * @example
 * await withApiKeys(readSettings([], process.env), pino(), (keys) => keys.list());
 */
export async function withApiKeys<T>(
  settings: Settings,
  log: Logger,
  work: (keys: ApiKeys) => Promise<T>,
): Promise<T> {
  return withStore(settings, log, (buckets, masters) =>
    work(new ApiKeys(buckets, vaultOf(buckets, masters))),
  );
}

/** Who works on the machine itself: it has the data. */
export const administrator: Principal = { ...root, id: "cli" };

/** Works on the store without a gateway: on one that runs, or on the data folder's, which runs for that long. */
async function withStore<T>(
  settings: Settings,
  log: Logger,
  work: (buckets: Buckets, masters: MasterKeys | undefined) => Promise<T>,
): Promise<T> {
  let embedded: EmbeddedNats | undefined;
  let connection: StoreConnection | undefined;
  try {
    let nats: NatsOptions;
    if (settings.natsUrl === undefined) {
      const running = await EmbeddedNats.start(settings, log).catch(runningOn(settings));
      if (running instanceof EmbeddedNats) embedded = running;
      nats = { servers: [running.url] };
    } else {
      nats = natsOptions(settings, undefined);
    }
    connection = await StoreConnection.open(nats);
    const folder = settings.natsUrl === undefined ? settings.dataDir : undefined;
    return await work(new Buckets(connection), await masterKeysOf(settings, folder, log));
  } finally {
    await connection?.close();
    await embedded?.stop();
  }
}

/** Finds the server of the gateway that works on the data folder. */
function runningOn({ dataDir }: Settings): (error: unknown) => Promise<{ url: string }> {
  return async (error) => {
    const url =
      error instanceof DataFolderInUseError ? await findRunningServer(dataDir) : undefined;
    if (url === undefined) throw error;
    return { url };
  };
}

function vaultOf(buckets: Buckets, masters: MasterKeys | undefined): Vault {
  return new Vault(buckets, new Sealer(masters, "jetbucket access"));
}

const dismissals: Record<Dismissal, End> = {
  revoked: {
    code: closeCodes.forbidden,
    reason: "the credentials were revoked",
    error: "forbidden",
    retryable: false,
  },
  "closed to strangers": {
    code: closeCodes.unauthenticated,
    reason: "this gateway wants credentials from now on",
    error: "unauthenticated",
    retryable: false,
  },
};

async function serve(
  settings: Settings,
  log: Logger,
  connection: StoreConnection,
  embedded: EmbeddedNats | undefined,
  masters: MasterKeys | undefined,
): Promise<GatewayServer> {
  const offConnection = connection.onChange((up) => {
    if (up) {
      log.info({ nats: connection.server }, "connected to NATS again");
      // It may be another server now.
      if (embedded === undefined) connection.syncsAlways = false;
      void learnSync(connection, settings, embedded, log);
    } else log.warn("the connection to NATS is lost: answering 503 until it is back");
  });
  let isOpen = true;
  const buckets = new Buckets(connection);
  const hub = new Hub(buckets);
  const vault = vaultOf(buckets, masters);
  const access = await Access.open(buckets, vault, {
    rootKey: settings.rootKey && new RootKey(settings.rootKey),
    onProblem: (error, message) => log.error({ err: error }, message),
  });
  const origins = originPolicy(
    settings.allowedOrigins,
    () => settings.insecure || access.isRequired,
    () => access.isRequired,
    !isLoopback(settings) && !settings.insecure,
  );
  const { rateLimit } = settings;
  const rates = new RateLimits(
    rateLimit === "off" ? undefined : { perSecond: rateLimit, burst: 2 * rateLimit },
  );
  const audit = auditOf(settings, connection, log);
  const addressOf = addressReader(settings.trustProxy);
  const auditor =
    audit &&
    new Auditor(audit, {
      reads: settings.auditReads,
      isOn: () => settings.auditRetention !== undefined || access.isRequired,
      addressOf,
    });
  const configWatches = new ConfigWatches(buckets, hub);
  const watches = new WatchServer({
    hub,
    configs: configWatches,
    log,
    origins,
    authenticator: access,
    auditor,
    addressOf,
    rates,
    maxSockets: settings.maxSockets,
    maxSocketsEach: settings.maxSocketsEach,
  });
  const app = createApp({
    buckets,
    configs: new Configs(buckets),
    secrets: masters && new Secrets(buckets, masters),
    watches,
    log,
    origins,
    access,
    audit,
    rates,
    addressOf,
    state: { isOpen: () => isOpen },
  });
  access.onDismiss((isMeant, why) => watches.dismiss(isMeant, dismissals[why]));
  const answer = getRequestListener(app.fetch);
  const http = createHttpServer(httpOptions, (request, response) => {
    auditor?.follow(request, response);
    if (!app.direct(request, response)) void answer(request, response);
  });
  http.on("clientError", answerClientError);
  watches.listen(http);
  try {
    await listen(http, settings.port, settings.host);
  } catch (error) {
    offConnection();
    configWatches.close();
    watches.close();
    await hub.close();
    await access.close();
    throw error;
  }

  const close = async (): Promise<void> => {
    isOpen = false;
    const closed = new Promise<void>((resolve) => http.close(() => resolve()));
    configWatches.close();
    await hub.close();
    watches.goAway();
    // Connections whose last request has been answered would be kept alive for the next one.
    const idle = setInterval(() => http.closeIdleConnections(), 50);
    await Promise.race([closed, delay(FINISH, undefined, { ref: false })]);
    clearInterval(idle);
    watches.close();
    http.closeAllConnections();
    await closed;
    await Promise.all([access.close(), audit?.close()]);
    await buckets.close();
    offConnection();
    await connection.close();
    await embedded?.stop();
  };
  let closing: Promise<void> | undefined;
  return {
    url: urlOf(http, settings.host),
    wantsCredentials: access.isRequired,
    nats: {
      url: `nats://${connection.server}`,
      version: connection.serverVersion,
      embedded: embedded !== undefined,
      ...(embedded === undefined ? {} : { dataDir: embedded.dataDir }),
    },
    failed: embedded?.failed ?? new Promise(() => undefined),
    close: () => (closing ??= close()),
  };
}

/** What is kept of who did what; undefined where that is nothing. */
function auditOf(
  { auditRetention = AUDIT_RETENTION, auditMaxBytes }: Settings,
  connection: StoreConnection,
  log: Logger,
): Audit | undefined {
  if (auditRetention === "off") return undefined;
  const kept = { maxAge: auditRetention, maxBytes: auditMaxBytes };
  return new Audit(new RecordLog(connection, AUDIT_STREAM, kept), {
    onProblem: (error) =>
      log.error({ err: error }, "the audit cannot be stored: it waits, up to a number of records"),
  });
}

/** The keys that protect secrets: as the settings say, else of the folder of the embedded server, else none. */
function masterKeysOf(
  { masterKeys: keys, masterKeyFile: file }: Settings,
  folder: string | undefined,
  log: Logger,
): Promise<MasterKeys | undefined> {
  return findMasterKeys(
    { keys, file, folder },
    {
      onCreated: (created, key) =>
        log.warn(
          { file: created, key },
          "made a master key for secrets: keep a copy of this file elsewhere, without it they cannot be read",
        ),
      onExposed: (exposed) =>
        log.warn({ file: exposed }, "others may read the file of the master key: chmod 600"),
    },
  );
}

/** The nats-server child, started again when it ends by itself. */
class EmbeddedNats {
  readonly #restart: (port: number) => Promise<EmbeddedNatsServer>;
  readonly #log: Logger;
  #server: EmbeddedNatsServer;
  #stopped = false;
  #fail!: (error: Error) => void;
  readonly failed = new Promise<Error>((resolve) => (this.#fail = resolve));

  private constructor(
    server: EmbeddedNatsServer,
    log: Logger,
    restart: (port: number) => Promise<EmbeddedNatsServer>,
  ) {
    this.#server = server;
    this.#log = log;
    this.#restart = restart;
    this.#follow(server);
  }

  static async start(settings: Settings, log: Logger): Promise<EmbeddedNats> {
    const { path: binary } = await findNatsServer({ onProgress: (line) => log.info(line) });
    const start = (port: number, portFallback: boolean): Promise<EmbeddedNatsServer> =>
      startNatsServer({
        binary,
        dataDir: settings.dataDir,
        port,
        portFallback,
        syncInterval: settings.sync,
        maxPayload: MAX_VALUE + limits.valueHeaders,
        onLog: (line) => log.debug({ nats: line }, "nats-server"),
      });
    const server = await start(settings.natsPort, true);
    if (settings.natsPort !== 0 && server.port !== settings.natsPort) {
      log.info(`port ${settings.natsPort} is taken: the embedded NATS server uses ${server.port}`);
    }
    return new EmbeddedNats(server, log, (port) => start(port, false));
  }

  get url(): string {
    return this.#server.url;
  }

  get dataDir(): string {
    return this.#server.dataDir;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#server.stop();
  }

  #isStopped(): boolean {
    return this.#stopped;
  }

  #follow(server: EmbeddedNatsServer): void {
    void server.exited.then(async ({ code, signal }) => {
      if (this.#isStopped()) return;
      this.#log.error(
        { code, signal, log_file: server.logFile },
        "the embedded NATS server ended: starting it again",
      );
      try {
        await server.stop();
        // The port stays the same: that is where the gateway and others will look for it.
        this.#server = await this.#restart(server.port);
        this.#follow(this.#server);
        if (this.#isStopped()) await this.#server.stop();
      } catch (error) {
        this.#fail(error instanceof Error ? error : new Error(String(error)));
      }
    });
  }
}

function natsOptions(settings: Settings, embedded: EmbeddedNats | undefined): NatsOptions {
  if (embedded !== undefined) return { servers: [embedded.url] };
  const { natsUser, natsPassword, natsToken, natsCreds, natsCa, natsCert, natsKey } = settings;
  const tls = {
    ...(natsCa === undefined ? {} : { caFile: natsCa }),
    ...(natsCert === undefined ? {} : { certFile: natsCert }),
    ...(natsKey === undefined ? {} : { keyFile: natsKey }),
  };
  const urls = (settings.natsUrl ?? []).map(splitCredentials);
  const inUrl = urls.find(({ user }) => user !== undefined);
  return {
    servers: urls.map(({ server }) => server),
    ...(inUrl?.user === undefined
      ? {}
      : inUrl.password === undefined
        ? { token: inUrl.user }
        : { user: inUrl.user, password: inUrl.password }),
    ...(natsUser === undefined ? {} : { user: natsUser }),
    ...(natsPassword === undefined ? {} : { password: natsPassword }),
    ...(natsToken === undefined ? {} : { token: natsToken }),
    ...(natsCreds === undefined ? {} : { credsFile: natsCreds }),
    ...(Object.keys(tls).length === 0 ? {} : { tls }),
  };
}

/**
 * Learns whether the server flushes every write to disk before it answers, which it does not say to clients. Ours does what its
 * settings say; another one's monitoring knows. What is not known is not claimed.
 */
async function learnSync(
  connection: StoreConnection,
  settings: Settings,
  embedded: EmbeddedNats | undefined,
  log: Logger,
): Promise<void> {
  if (embedded !== undefined) {
    connection.syncsAlways = settings.sync === "always";
    return;
  }
  const { natsMonitoring } = settings;
  if (natsMonitoring === undefined) return;
  try {
    const response = await fetch(new URL("/jsz?config=1", natsMonitoring), {
      signal: AbortSignal.timeout(MONITORING),
    });
    const { config } = (await response.json()) as { config?: { sync_always?: boolean } };
    connection.syncsAlways = config?.sync_always === true;
  } catch (error) {
    connection.syncsAlways = false;
    log.warn(
      { err: error },
      "the monitoring of NATS does not answer: writes are not called durable",
    );
  }
}

/** Takes `user:password@` or `token@` out of an address: the client expects them beside it. */
function splitCredentials(url: string): { server: string; user?: string; password?: string } {
  const match = /^((?:[a-z]+:\/\/)?)(?:([^@:]*)(?::([^@]*))?@)?(.+)$/.exec(url);
  const [, scheme = "", user, password, rest = url] = match ?? [];
  return {
    server: scheme + rest,
    ...(user === undefined ? {} : { user: decodeURIComponent(user) }),
    ...(password === undefined ? {} : { password: decodeURIComponent(password) }),
  };
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EADDRINUSE") reject(error);
      else
        reject(
          new Error(`port ${port} on ${host} is taken: choose another with --port`, {
            cause: error,
          }),
        );
    });
    server.listen({ port, host, backlog: BACKLOG }, () => {
      server.removeAllListeners("error");
      resolve();
    });
  });
}

function urlOf(server: Server, host: string): string {
  const { port } = server.address() as AddressInfo;
  const name =
    host === "127.0.0.1" || host === "::1" || host === "0.0.0.0" || host === "::"
      ? "localhost"
      : host;
  return `http://${name.includes(":") ? `[${name}]` : name}:${port}`;
}
