import { parseArgs, type ParseArgsConfig } from "node:util";
import pino from "pino";
import { createApiKeySchema, type ApiKeyInfo } from "../../protocol/access.ts";
import { KvError } from "../../protocol/errors.ts";
import { parseWith } from "../../protocol/messages.ts";
import { administrator, withApiKeys } from "../../server.ts";
import { readSettings, SettingsError } from "../../settings.ts";
import { parseScopes, scopeText } from "../scope-text.ts";

export const keysHelp = `keys create --name <name> --scope <scope> [--scope …] [--expires 30d] [--environment <name>] [--json]
keys list [--json]
keys revoke <id>
API keys, also while gateways serve, which hear of it within a second. create prints the key, once, and nothing else on its standard
output. A scope is verbs, a bucket or an environment, and filters of keys: read,watch:carts:user.42.> or *, which is everything;
or JSON. They take the flags of serve, and work on the data folder, or on --nats-url.`;

const own = {
  name: { type: "string" },
  scope: { type: "string", multiple: true },
  expires: { type: "string" },
  environment: { type: "string" },
  json: { type: "boolean" },
} satisfies ParseArgsConfig["options"];

/** A command line that is wrong. */
class UsageError extends Error {}

/** Runs a command about API keys. Resolves with the exit code. */
export async function keys(args: readonly string[]): Promise<number> {
  try {
    return await run(args);
  } catch (error) {
    const isUsage =
      error instanceof UsageError ||
      error instanceof SettingsError ||
      (error instanceof KvError && error.status === 400);
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`jetbucket: ${message}\n${isUsage ? "see jetbucket --help\n" : ""}`);
    return isUsage ? 2 : 1;
  }
}

async function run([verb, ...args]: readonly string[]): Promise<number> {
  const { values, positionals, flags } = split(args);
  const settings = readSettings(flags, process.env);
  const log = pino(
    { level: settings.logLevel, base: { service: "jetbucket" } },
    pino.destination({ dest: 2, sync: true }),
  );
  const { name, scope, expires, environment, json } = values;
  if (verb === "revoke") {
    const [id, ...more] = positionals;
    if (id === undefined || more.length > 0) throw new UsageError("keys revoke takes one id");
    await withApiKeys(settings, log, (apiKeys) => apiKeys.revoke(id));
    process.stderr.write(`API key ${id} is revoked\n`);
    return 0;
  }
  if (positionals.length > 0) throw new UsageError(`what is ${positionals[0]}?`);
  if (verb === "list") {
    const found = await withApiKeys(settings, log, (apiKeys) => apiKeys.list());
    process.stdout.write(json === true ? `${JSON.stringify(found, null, 2)}\n` : tableOf(found));
    return 0;
  }
  if (verb !== "create") throw new UsageError("keys can be told to create, list and revoke");
  if (name === undefined) throw new UsageError("keys create wants a --name");
  if (scope === undefined) throw new UsageError("keys create wants a --scope");
  const request = parseWith(createApiKeySchema, {
    name,
    scopes: scope.flatMap(parseScopes),
    ...(environment === undefined ? {} : { environment }),
    ...(expires === undefined ? {} : { expires_in: expires }),
  });
  const created = await withApiKeys(settings, log, (apiKeys) =>
    apiKeys.create(request, administrator),
  );
  process.stdout.write(
    json === true ? `${JSON.stringify(created, null, 2)}\n` : `${created.key}\n`,
  );
  process.stderr.write(
    `API key ${created.id}${created.expires_at === undefined ? "" : `, until ${created.expires_at}`}: this is the only time that it is shown\n`,
  );
  return 0;
}

/** Takes the command's own flags out of what else is for the settings. */
function split(args: readonly string[]): {
  values: {
    name?: string;
    scope?: string[];
    expires?: string;
    environment?: string;
    json?: boolean;
  };
  positionals: string[];
  flags: string[];
} {
  const { tokens } = parseArgs({
    args: [...args],
    options: own,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const ownArgs: string[] = [];
  const flags: string[] = [];
  let wasForeign = false;
  for (const token of tokens) {
    if (token.kind === "option") {
      const isOwn = Object.hasOwn(own, token.name);
      const target = isOwn ? ownArgs : flags;
      if (token.value === undefined) target.push(token.rawName);
      else if (isOwn || token.inlineValue) target.push(`${token.rawName}=${token.value}`);
      else target.push(token.rawName, token.value);
      wasForeign = !isOwn && token.value === undefined;
    } else if (token.kind === "positional") {
      // It may be the value of a flag that is not known here.
      (wasForeign ? flags : ownArgs).push(token.value);
      wasForeign = false;
    }
  }
  try {
    const { values, positionals } = parseArgs({
      args: ownArgs,
      options: own,
      allowPositionals: true,
    });
    return { values, positionals, flags };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function tableOf(found: readonly ApiKeyInfo[]): string {
  const rows = found.map((key) => [
    key.id,
    key.name,
    key.scopes.map(scopeText).join("  "),
    key.expires_at ?? "never",
    key.last_used_at ?? "never",
  ]);
  const all = [["ID", "NAME", "SCOPES", "EXPIRES", "LAST USED"], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all
    .map(
      (row) =>
        `${row
          .map((cell, i) => cell.padEnd(widths[i]!))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}
