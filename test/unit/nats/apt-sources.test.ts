import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import {
  debianEntries,
  parseDeb822,
  parseOneLine,
  renderForSuite,
} from "../../../src/nats/apt-sources.ts";
import { readDebianSources } from "../../../src/nats/debian.ts";

const DEB822 = `# what Debian's images have
Types: deb
# a comment inside
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`;

test("reads the entries of a .sources file", () => {
  const entries = parseDeb822(DEB822);
  expect(entries).toHaveLength(2);
  expect(Object.fromEntries(entries[0]!)).toEqual({
    Types: "deb",
    URIs: "http://mirror.example/debian",
    Suites: "bookworm bookworm-updates",
    Components: "main",
    "Signed-By": "/usr/share/keyrings/debian-archive-keyring.gpg",
  });
});

test("keeps a key that is written into the entry", () => {
  const [entry] = parseDeb822(
    "Types: deb\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\nSigned-By:\n -----BEGIN PGP-----\n .\n abc\n -----END PGP-----\n",
  );
  expect(renderForSuite(entry!, "forky")).toBe(
    "Types: deb\nURIs: http://m.example/debian\nSuites: forky\nComponents: main\nSigned-By: \n -----BEGIN PGP-----\n .\n abc\n -----END PGP-----\n",
  );
});

test("reads one-line entries with and without options", () => {
  const entries = parseOneLine(`
# deb http://off.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib # the mirror
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://mirror.example/debian/ stable main
nonsense
`);
  expect(entries.map((entry) => Object.fromEntries(entry))).toEqual([
    {
      Types: "deb",
      URIs: "http://mirror.example/debian",
      Suites: "bookworm",
      Components: "main contrib",
    },
    {
      Types: "deb-src",
      URIs: "http://mirror.example/debian",
      Suites: "bookworm",
      Components: "main",
    },
    {
      Types: "deb",
      URIs: "https://mirror.example/debian/",
      Suites: "stable",
      Components: "main",
      Architectures: "amd64 arm64",
      "Signed-By": "/usr/share/keyrings/debian-archive-keyring.gpg",
    },
  ]);
});

test("takes only the main archive of Debian, Debian's own key first", () => {
  const entries = debianEntries([
    ...parseOneLine(`
deb [signed-by=/etc/apt/keyrings/vendor.gpg] https://vendor.example/apt bookworm main
deb https://vendor.example/linux/debian bookworm stable
deb https://vendor.example/apt bookworm-vendor main
deb-src http://mirror.example/debian bookworm main
`),
    ...parseDeb822(`Enabled: no\n${DEB822}`),
    ...parseDeb822(DEB822),
  ]);
  expect(entries.map((entry) => entry.get("URIs"))).toEqual([
    "http://mirror.example/debian",
    "https://vendor.example/apt",
  ]);
});

test("renders the same source for another suite", () => {
  expect(renderForSuite(parseDeb822(DEB822)[0]!, "forky")).toBe(`Types: deb
URIs: http://mirror.example/debian
Suites: forky
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`);
});

test("reads both kinds of files of apt's folder and no others", async () => {
  const folder = await mkdtemp(join(tmpdir(), "jetbucket-apt-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await mkdir(join(folder, "sources.list.d"));
  await writeFile(join(folder, "sources.list"), "deb http://a.example/debian trixie main\n");
  await writeFile(join(folder, "sources.list.d", "debian.sources"), DEB822);
  await writeFile(
    join(folder, "sources.list.d", "old.list.disabled"),
    "deb http://b.example/debian trixie main\n",
  );
  const entries = await readDebianSources(folder);
  expect(entries.map((entry) => entry.get("URIs"))).toEqual([
    "http://mirror.example/debian",
    "http://a.example/debian",
  ]);
});

test("finds no source where apt is not in use", async () => {
  expect(await readDebianSources("/nowhere/at/all")).toEqual([]);
});
