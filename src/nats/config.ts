/** What the generated configuration of an embedded server is made from. */
export type ServerConfig = {
  /** The address to listen on. */
  host: string;
  /** The client port; -1 lets the server pick a free one. */
  port: number;
  /** The server's name in its INFO line and its logs. */
  name: string;
  /** JetStream's storage folder. */
  storeDir: string;
  /** When JetStream flushes to disk: "always" (each write) or a duration such as "2m". */
  syncInterval: string;
  logFile: string;
  pidFile: string;
  /** The folder into which the server writes the ports it really listens on. */
  portsDir: string;
  /** The largest message, in bytes; the server's default is 1 MiB. */
  maxPayload?: number | undefined;
  /** More lines in the server's own syntax, appended as they are. */
  extraConfig?: string | undefined;
};

const LOG_FILE_LIMIT = 8 * 1024 * 1024;
const LOG_FILES_KEPT = 3;
const DEFAULT_MAX_PENDING = 64 * 1024 * 1024;

const ESCAPES: Readonly<Record<string, string>> = {
  "\\": "\\\\",
  '"': '\\"',
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

/** A string as a double-quoted literal of nats-server's configuration language. */
export function quote(text: string): string {
  return `"${text.replace(/[\\"\n\r\t]/g, (character) => ESCAPES[character] ?? character)}"`;
}

/** The text of the configuration file for `config`. */
export function renderConfig(config: ServerConfig): string {
  const lines = [
    "# Generated at every start; changes made here are lost.",
    `server_name: ${quote(config.name)}`,
    `host: ${quote(config.host)}`,
    `port: ${config.port}`,
    `pid_file: ${quote(config.pidFile)}`,
    `ports_file_dir: ${quote(config.portsDir)}`,
    `log_file: ${quote(config.logFile)}`,
    `logfile_size_limit: ${LOG_FILE_LIMIT}`,
    `logfile_max_num: ${LOG_FILES_KEPT}`,
  ];
  if (config.maxPayload !== undefined) {
    lines.push(`max_payload: ${config.maxPayload}`);
    // The server refuses a max_payload above max_pending.
    if (config.maxPayload > DEFAULT_MAX_PENDING) lines.push(`max_pending: ${config.maxPayload}`);
  }
  lines.push(
    "jetstream {",
    `  store_dir: ${quote(config.storeDir)}`,
    `  sync_interval: ${quote(config.syncInterval)}`,
    "}",
  );
  if (config.extraConfig !== undefined) lines.push(config.extraConfig);
  return `${lines.join("\n")}\n`;
}
