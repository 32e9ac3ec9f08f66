/** Why a nats-server could not be started. */
export type NatsServerStartReason = "port-in-use" | "exited" | "timeout";

/**
 * Thrown by `startNatsServer()` when the server did not become ready.
 * `reason` is for programs, `message` (with the end of the server's log) for people.
 */
export class NatsServerStartError extends Error {
  override readonly name = "NatsServerStartError";

  constructor(
    readonly reason: NatsServerStartReason,
    message: string,
    /** The last lines that the server logged; empty when it logged nothing. */
    readonly logTail = "",
  ) {
    super(logTail === "" ? message : `${message}\nThe end of its log:\n${logTail}`);
  }
}

/**
 * Thrown when another live process works on the data folder. Two servers on one folder would
 * corrupt it, so the second one does not start.
 */
export class DataFolderInUseError extends Error {
  override readonly name = "DataFolderInUseError";

  constructor(
    /** The data folder, as an absolute path. */
    readonly dataDir: string,
    /** The process that holds the folder. */
    readonly pid: number,
    /** The name of the machine or container which that process runs on. */
    readonly hostname: string,
  ) {
    super(
      `The data folder ${dataDir} is in use by process ${pid} on ${hostname}. ` +
        "Stop that process, or choose another data folder.",
    );
  }
}

/** One place where a nats-server was looked for, and why it gave none. */
export type FailedAttempt = { readonly place: string; readonly reason: string };

/** Thrown by `findNatsServer()`; its message lists what was tried, why it failed, what to do next. */
export class NatsServerNotFoundError extends Error {
  override readonly name = "NatsServerNotFoundError";

  constructor(
    headline: string,
    /** Every place that was tried, in order. */
    readonly attempts: readonly FailedAttempt[],
  ) {
    const tried = attempts.map(({ place, reason }) => `  - ${place}: ${reason}`);
    super(
      [
        headline,
        ...(tried.length > 0 ? ["Tried:", ...tried] : []),
        "What to do, any one of:",
        "  - install nats-server (https://github.com/nats-io/nats-server/releases) so that it is on PATH",
        "  - set NATS_SERVER_BIN to the path of a nats-server program",
        "  - set NATS_URL to use a NATS server that already runs",
      ].join("\n"),
    );
  }
}

/** The `code` of a system error (`ENOENT`, `EADDRINUSE`, ...), or undefined for any other value. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string"
    ? error.code
    : undefined;
}
