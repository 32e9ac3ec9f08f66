/** One way to fetch a server into the cache. */
export type Fetcher = {
  readonly source: "release" | "debian";
  /** What it is, for the list of what was tried. */
  readonly place: string;
  /** Rejects with the reason, in words for that list. */
  readonly fetch: (context: FetchContext) => Promise<{ path: string; version: string }>;
};

/** What a fetcher works with. */
export type FetchContext = {
  /** The folder to put the program into. */
  cache: string;
  env: NodeJS.ProcessEnv;
  /** Gets a line of text when something starts that takes a while. */
  onProgress: (line: string) => void;
};
