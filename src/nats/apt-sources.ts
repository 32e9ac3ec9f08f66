/** One entry of apt's sources in the deb822 notation: field names as written, and their values. */
export type SourceEntry = ReadonlyMap<string, string>;

const MAIN_SUITES = new Set([
  ...["oldoldstable", "oldstable", "stable", "testing", "unstable", "sid"],
  ...["buster", "bullseye", "bookworm", "trixie", "forky", "duke"],
]);

/** The options of one-line entries, as fields of deb822 entries. */
const OPTION_FIELDS: Readonly<Record<string, string>> = {
  arch: "Architectures",
  lang: "Languages",
  target: "Targets",
  pdiffs: "PDiffs",
  "by-hash": "By-Hash",
  "signed-by": "Signed-By",
  trusted: "Trusted",
  "allow-insecure": "Allow-Insecure",
  "allow-weak": "Allow-Weak",
  "allow-downgrade-to-insecure": "Allow-Downgrade-To-Insecure",
  "check-valid-until": "Check-Valid-Until",
  "valid-until-min": "Valid-Until-Min",
  "valid-until-max": "Valid-Until-Max",
  "check-date": "Check-Date",
  "date-max-future": "Date-Max-Future",
  "inrelease-path": "InRelease-Path",
};
/** Options whose values are lists, with commas in one notation and blanks in the other. */
const LIST_FIELDS = new Set(["Architectures", "Languages", "Targets"]);

/** Reads a `.sources` file (deb822): entries apart by blank lines, values may go on indented. */
export function parseDeb822(text: string): SourceEntry[] {
  const entries: SourceEntry[] = [];
  let fields = new Map<string, string>();
  let current: string | undefined;
  const finish = (): void => {
    if (fields.size > 0) entries.push(fields);
    fields = new Map();
    current = undefined;
  };
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith("#")) continue;
    if (line.trim() === "") {
      finish();
    } else if (/^[ \t]/.test(line)) {
      if (current !== undefined) fields.set(current, `${fields.get(current) ?? ""}\n${line}`);
    } else {
      const [, name, value] = /^([^:\s]+)\s*:\s*(.*)$/.exec(line) ?? [];
      if (name === undefined) continue;
      current = name;
      fields.set(name, value?.trimEnd() ?? "");
    }
  }
  finish();
  return entries;
}

/** Reads a one-line style `.list` file. Lines that are no entry are left out. */
export function parseOneLine(text: string): SourceEntry[] {
  return text.split(/\r?\n/).flatMap((line) => {
    const found = /^\s*(deb(?:-src)?)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*(.*)$/.exec(
      line.replace(/#.*$/, ""),
    );
    if (found === null) return [];
    const [, type = "", options = "", uri = "", suite = "", components = ""] = found;
    const fields = new Map([
      ["Types", type],
      ["URIs", uri],
      ["Suites", suite],
      ["Components", components.trim()],
    ]);
    for (const [, name = "", value = ""] of options.matchAll(/([\w-]+)\s*[+-]?=\s*(\S+)/g)) {
      const field = OPTION_FIELDS[name.toLowerCase()];
      if (field === undefined) continue;
      fields.set(field, LIST_FIELDS.has(field) ? value.replaceAll(",", " ") : value);
    }
    return [fields];
  });
}

/**
 * The entries for Debian's main archive: of packages, enabled, of a plain Debian suite with the
 * component "main". Debian's own key first, since other vendors name their suites alike.
 */
export function debianEntries(entries: readonly SourceEntry[]): SourceEntry[] {
  const isFromDebian = (entry: SourceEntry): number =>
    Number(field(entry, "Signed-By").includes("debian-archive")) +
    Number(/\/debian\/?(\s|$)/.test(field(entry, "URIs")));
  return entries
    .filter(
      (entry) =>
        !/^(no|false|0|off|without|disable)$/i.test(field(entry, "Enabled").trim()) &&
        words(entry, "Types").includes("deb") &&
        words(entry, "Components").includes("main") &&
        words(entry, "Suites").some((suite) => MAIN_SUITES.has(suite)),
    )
    .sort((a, b) => isFromDebian(b) - isFromDebian(a));
}

/** The same source for another suite, as the text of a `.sources` file. */
export function renderForSuite(entry: SourceEntry, suite: string): string {
  const replaced: Readonly<Record<string, string>> = {
    types: "deb",
    suites: suite,
    components: "main",
  };
  const lines = [...entry].map(
    ([name, value]) => `${name}: ${replaced[name.toLowerCase()] ?? value}`,
  );
  return `${lines.join("\n")}\n`;
}

function field(entry: SourceEntry, name: string): string {
  for (const [key, value] of entry) {
    if (key.toLowerCase() === name.toLowerCase()) return value;
  }
  return "";
}

function words(entry: SourceEntry, name: string): string[] {
  return field(entry, name).split(/\s+/);
}
