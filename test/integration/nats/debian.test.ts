import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { fetchFromDebian, readDebianSources } from "../../../src/nats/debian.ts";
import { compareVersions, MINIMUM_NATS_VERSION } from "../../../src/nats/version.ts";

const hasSources = (await readDebianSources()).length > 0;
const isOffline = Boolean(process.env.JETBUCKET_OFFLINE);
const why = isOffline
  ? " (skipped: JETBUCKET_OFFLINE is set)"
  : hasSources
    ? ""
    : " (skipped: apt has no source for Debian here)";

test.skipIf(why !== "")(
  `fetches a server from Debian's next release without touching the system${why}`,
  { timeout: 120_000 },
  async () => {
    const cache = await mkdtemp(join(tmpdir(), "jetbucket-cache-"));
    onTestFinished(() => rm(cache, { recursive: true }));
    const lists = await readdir("/var/lib/apt/lists");
    const found = await fetchFromDebian.fetch({
      cache,
      env: process.env,
      onProgress: () => undefined,
    });
    expect(compareVersions(found.version, MINIMUM_NATS_VERSION)).toBeGreaterThanOrEqual(0);
    expect(await readdir(cache)).toEqual([found.path.slice(cache.length + 1)]);
    expect(await readdir("/var/lib/apt/lists")).toEqual(lists);
  },
);
