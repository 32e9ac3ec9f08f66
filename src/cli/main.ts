#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { keys, keysHelp } from "./commands/keys.ts";
import { secrets, secretsHelp } from "./commands/secrets.ts";
import { serve, serveHelp } from "./commands/serve.ts";

const HELP = `jetbucket: key-value buckets with realtime watch on NATS JetStream

usage: jetbucket [serve] [flags] | keys create|list|revoke [flags] | secrets rotate [flags] | --help | --version

${keysHelp}

${secretsHelp}

${serveHelp}
`;

const [first, ...rest] = process.argv.slice(2);
const command = first === undefined || first.startsWith("-") ? "serve" : first;
const args = command === first ? rest : process.argv.slice(2);

if (args.includes("--help") || args.includes("-h") || command === "help") {
  process.stdout.write(HELP);
} else if (args.includes("--version") || command === "version") {
  const { version } = JSON.parse(
    readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
  ) as { version: string };
  process.stdout.write(`${version}\n`);
} else if (command === "serve") {
  process.exitCode = await serve(args);
} else if (command === "keys") {
  process.exitCode = await keys(args);
} else if (command === "secrets") {
  process.exitCode = await secrets(args);
} else {
  process.stderr.write(`jetbucket: there is no command "${command}": see jetbucket --help\n`);
  process.exitCode = 2;
}
