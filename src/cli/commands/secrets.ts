import pino from "pino";
import { rotateSecrets, type EnvironmentRotation } from "../../server.ts";
import { readSettings, SettingsError, type Settings } from "../../settings.ts";

export const secretsHelp = `secrets rotate: bring all secrets under the first master key, while gateways serve; the others are not needed any more then.
It takes the flags of serve. It can be stopped at any time and run again. Beside a gateway that runs a NATS server of its own:
  jetbucket secrets rotate --nats-url nats://127.0.0.1:4222 --master-key-file ./data/master.key`;

/** Runs a command about secrets. Resolves with the exit code. */
export async function secrets(args: readonly string[]): Promise<number> {
  const [verb, ...flags] = args;
  if (verb !== "rotate") {
    process.stderr.write(`jetbucket: secrets can be told to rotate: see jetbucket --help\n`);
    return 2;
  }
  let settings: Settings;
  try {
    settings = readSettings(flags, process.env);
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    process.stderr.write(`jetbucket: ${error.message}\nsee jetbucket --help\n`);
    return 2;
  }
  const log = pino(
    { level: settings.logLevel, base: { service: "jetbucket" } },
    pino.destination({ dest: 2, sync: true }),
  );
  let failed = 0;
  try {
    await rotateSecrets(settings, log, (rotation) => {
      process.stdout.write(`${textOf(rotation)}\n`);
      failed += rotation.failed.length;
    });
  } catch (error) {
    process.stderr.write(`jetbucket: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
  return failed === 0 ? 0 : 1;
}

function textOf({ environment, total, renewed, failed }: EnvironmentRotation): string {
  return [
    `${environment}: ${renewed} of ${total} secrets encrypted anew, ${failed.length} not readable`,
    ...failed.map(({ why }) => `  ${why}`),
  ].join("\n");
}
