/** The keys and filters of a checker run, and what a filter covers, written apart from the product. */

/** With dots, so that wildcards have something to tell apart. */
export const KEYS = [
  ...["a", "a.1", "a.2", "a.3", "a.b", "a.b.c", "a.b.d", "a.b.c.d", "a-1", "a-2", "a-x", "a-x.y"],
  ...["b", "b.1", "b.2", "b.b.c", "b-1", "b-x.y", "ab", "ab.1", "user.1", "user.2", "user.1.name"],
  ...["user.2.name", "user-1", "x.y.z", "x.y.z.1", "UP.1"],
] as const;

/** Of these values are large, so that sockets fill up. */
export const HEAVY_KEYS = ["h.1", "h.2", "h.3", "h.x.1", "h-1"] as const;

/** Sets of filters of a watch; the empty one is every key. */
export const FILTERS: readonly (readonly string[])[] = [
  [],
  [],
  [">"],
  ["*"],
  ["a.*"],
  ["a.>"],
  ["a-*"],
  ["*.1"],
  ["*-*"],
  ["h.>"],
  ["a.1"],
  ["a.1", "a.b.c", "b", "h.1"],
  ["a.*", "b.>"],
  ["a.*", "a.>", "a.1"],
  ["user.*.name", "user.1"],
  ["us*.>", "h-*"],
  ["a-*", "b.*", "x.>"],
  ["*.*.*", "h.*"],
  ["none.>", "a.2"],
];

/** Whether one of some filters covers a key; without any, every key is covered. */
export function coversKey(filters: readonly string[]): (key: string) => boolean {
  if (filters.length === 0) return () => true;
  const expressions = filters.map((filter) => {
    const tokens = filter.split(".").map((token, i, all) => {
      if (token === ">" && i === all.length - 1) return ".+";
      if (token === "*") return "[^.]+";
      return token
        .split("*")
        .map((piece) => piece.replace(/[$()+?[\\\]^{|}]/g, "\\$&"))
        .join("[^.]*");
    });
    return new RegExp(`^${tokens.join("\\.")}$`);
  });
  return (key) => expressions.some((expression) => expression.test(key));
}
