import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { KvError } from "../../../src/protocol/errors.ts";
import {
  assertKey,
  decodeKey,
  encodeKey,
  everyKey,
  keyPattern,
  parsePattern,
} from "../../../src/protocol/keys.ts";
import { isLegalSubject, natsCovers } from "../../support/subjects.ts";

const RUNS = { numRuns: 2_000 };

function codeOf(action: () => unknown): string | undefined {
  try {
    action();
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return undefined;
}

const isKey = (text: string): boolean => codeOf(() => assertKey(text)) === undefined;

/** Pieces that an encoding with dots, stars and escapes could stumble over. */
const pieces = [
  ...[".", "..", "=", "=4", "=41", "=3D", "=2E", "=2A", "=C3=BC", "=10", "=ZZ", "=c3", "%2F"],
  ...["*", ">", " ", "\t", "\n", "\r", "\u2028", "/", "-", "_", ":", "#", "?", "$", "\\", '"'],
  ...["a", "b", "A", "F", "0", "7", "user", "ü", "e\u0301", "漢", "😀", "\ufeff", "\uffff"],
];
const tricky = fc
  .array(fc.constantFrom(...pieces), { minLength: 1, maxLength: 10 })
  .map((parts) => parts.join(""));
const keys = fc
  .oneof(
    { weight: 3, arbitrary: tricky },
    { weight: 1, arbitrary: fc.string({ unit: "binary", minLength: 1, maxLength: 40 }) },
    { weight: 1, arbitrary: fc.string({ minLength: 1, maxLength: 40 }) },
  )
  .filter(isKey);

describe("a key", () => {
  test.each([
    ["empty", ""],
    ["longer than 512 bytes", "a".repeat(513)],
    ["longer than 512 bytes in UTF-8, though not in characters", "ü".repeat(257)],
    ["with a NUL", "a\0b"],
    ["with an escape character", "a\u001bb"],
    ["with DEL", "a\u007f"],
    ["with a C1 control character", "a\u0085b"],
    ["with the first half of a surrogate pair", "a\ud83d"],
    ["with the second half of a surrogate pair", "\ude00a"],
  ])("that is %s is refused as invalid_key", (_what, key) => {
    expect(codeOf(() => assertKey(key))).toBe("invalid_key");
  });

  test.each([
    ["of 512 bytes", "a".repeat(512)],
    ["of 512 bytes in UTF-8", "ü".repeat(256)],
    ["of wildcards", "*.>"],
    ["of dots", "..."],
    ["with white space", " a\tb\nc "],
    ["that is a number", "0"],
    ["named like a property of every object", "__proto__"],
  ])("%s is allowed", (_what, key) => {
    expect(codeOf(() => assertKey(key))).toBeUndefined();
  });
});

describe("the encoding of keys", () => {
  test("is undone by decoding, whatever the key", () => {
    fc.assert(
      fc.property(keys, (key) => {
        expect(decodeKey(encodeKey(key))).toBe(key);
      }),
      RUNS,
    );
  });

  test("yields legal subjects in the alphabet of NATS KV: no empty token, space or wildcard", () => {
    fc.assert(
      fc.property(keys, (key) => {
        expect(encodeKey(key)).toSatisfy(isLegalSubject);
      }),
      RUNS,
    );
  });

  test("gives different keys different subjects", () => {
    // Keys close to each other: one is made from the other by encoding it, or a part of it.
    const pairs = fc.tuple(keys, keys, keys).map(([a, b, c]) => [a + c, encodeKey(a) + b] as const);
    fc.assert(
      fc.property(fc.oneof(pairs, fc.tuple(keys, keys)), ([a, b]) => {
        fc.pre(a !== b && isKey(a) && isKey(b));
        expect(encodeKey(a)).not.toBe(encodeKey(b));
      }),
      RUNS,
    );
  });

  test("leaves what NATS KV allows as it is", () => {
    const token = fc.stringMatching(/^[-/_A-Za-z0-9]{1,8}$/);
    fc.assert(
      fc.property(fc.array(token, { minLength: 1, maxLength: 5 }), (tokens) => {
        const key = tokens.join(".");
        expect(encodeKey(key)).toBe(key);
        expect(decodeKey(key)).toBe(key);
      }),
      RUNS,
    );
  });

  test.each([
    ["user:1", "user=3A1"],
    ["a=b", "a=b"],
    ["a=41", "a=3D41"],
    ["a=4", "a=4"],
    ["a=", "a="],
    ["=", "="],
    ["a.b", "a.b"],
    ["a..b", "a.=2Eb"],
    [".a", "=2Ea"],
    ["a.", "a=2E"],
    [".", "=2E"],
    ["a b", "a=20b"],
    ["a*b", "a=2Ab"],
    ["ü", "=C3=BC"],
    ["a/b", "a/b"],
  ])("stores %j as %j", (key, subject) => {
    expect(encodeKey(key)).toBe(subject);
    expect(decodeKey(subject)).toBe(key);
  });

  test("takes a subject that it would not have made, as another client may write it, for its own name", () => {
    for (const suffix of ["page=10", "a=41", "x=FF", "=2e", "a=3Db", "q=C3", "=00"]) {
      expect(decodeKey(suffix)).toBe(suffix);
    }
  });

  test("decodes each legal subject to something that names it or encodes back to it", () => {
    const suffixes = fc
      .array(fc.constantFrom("=", "=4", "=41", "=C3", "=BC", "=2E", "=3D", "=00", "a", "F", "."), {
        minLength: 1,
        maxLength: 8,
      })
      .map((parts) => parts.join(""))
      .filter(isLegalSubject);
    fc.assert(
      fc.property(suffixes, (suffix) => {
        const key = decodeKey(suffix);
        expect(key === suffix || encodeKey(key) === suffix).toBe(true);
      }),
      RUNS,
    );
  });
});

/** Tokens of a key: a dot separates where it has something before it in its token and anything behind it. */
function tokensOf(text: string): string[] {
  const tokens = [""];
  Array.from(text).forEach((char, i, all) => {
    if (char === "." && tokens.at(-1) !== "" && i + 1 < all.length) tokens.push("");
    else tokens[tokens.length - 1] += char;
  });
  return tokens;
}

function globMatches(glob: string, token: string): boolean {
  const source = glob
    .split("*")
    .map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"))
    .join("[^]*");
  return glob === "*" || new RegExp(`^${source}$`, "u").test(token);
}

/** What a filter means, on decoded tokens. */
function refersTo(filter: string, key: string): boolean {
  const tokens = tokensOf(key);
  if (filter === ">") return true;
  const open = filter.endsWith(".>");
  const globs = tokensOf(open ? filter.slice(0, -2) : filter);
  if (open ? tokens.length <= globs.length : tokens.length !== globs.length) return false;
  return globs.every((glob, i) => globMatches(glob, tokens[i]!));
}

/** A filter made from a key: some tokens replaced, some parts of tokens, some tail. */
const filtersOf = (key: string): fc.Arbitrary<string> =>
  fc
    .tuple(
      fc.array(fc.constantFrom("keep", "star", "prefix", "suffix", "middle", "ends"), {
        minLength: 8,
        maxLength: 8,
      }),
      fc.nat(5),
      fc.nat(4),
    )
    .map(([how, at, tail]) => {
      const tokens = tokensOf(key).map((token, i) => {
        const chars = Array.from(token);
        const cut = Math.min(at, chars.length);
        switch (how[i % 8]) {
          case "star":
            return "*";
          case "prefix":
            return `${chars.slice(0, cut).join("")}*`;
          case "suffix":
            return `*${chars.slice(cut).join("")}`;
          case "middle":
            return `${chars.slice(0, cut).join("")}*${chars.slice(cut + 1).join("")}`;
          case "ends":
            return `*${chars.slice(1, -1).join("")}*`;
          default:
            return token;
        }
      });
      const filter = tokens.join(".");
      if (tail === 0) return ">";
      return tail === 1 && tokens.length > 1 ? `${tokens.slice(0, -1).join(".")}.>` : filter;
    });

const isFilter = (text: string): boolean => codeOf(() => parsePattern(text)) === undefined;

/** A key, and a filter that may or may not match it. */
const cases = fc
  .oneof(
    keys.chain((key) => fc.tuple(fc.constant(key), filtersOf(key))),
    fc.tuple(keys, keys.chain(filtersOf)),
    fc.tuple(keys, tricky),
  )
  .filter(([, filter]) => isFilter(filter));

describe("a filter", () => {
  test("matches what it means on decoded tokens, stars inside tokens included", () => {
    let matched = 0;
    fc.assert(
      fc.property(cases, ([key, filter]) => {
        const expected = refersTo(filter, key);
        if (expected) matched += 1;
        expect(parsePattern(filter).matches(encodeKey(key))).toBe(expected);
      }),
      { numRuns: 5_000 },
    );
    // The cases are good for something only if many of them match.
    expect(matched).toBeGreaterThan(1_000);
  });

  test("has a NATS subject that covers all that it matches, and nothing else where it is exact", () => {
    fc.assert(
      fc.property(cases, ([key, filter]) => {
        const pattern = parsePattern(filter);
        const suffix = encodeKey(key);
        if (pattern.matches(suffix)) expect(natsCovers(pattern.subject, suffix)).toBe(true);
        if (pattern.exact) {
          expect(natsCovers(pattern.subject, suffix)).toBe(pattern.matches(suffix));
        }
      }),
      { numRuns: 5_000 },
    );
  });

  test("has a legal NATS filter for a subject", () => {
    fc.assert(
      fc.property(cases, ([, filter]) => {
        const tokens = parsePattern(filter).subject.split(".");
        tokens.forEach((token, i) => {
          expect(token).toMatch(/^(?:\*|[-/_=A-Za-z0-9]+|>)$/);
          if (token === ">") expect(i).toBe(tokens.length - 1);
        });
      }),
      RUNS,
    );
  });

  test.each([
    ["user.*", ["user.1", "user.ü"], ["user", "user.1.name", "users.1"]],
    ["user.>", ["user.1", "user.1.name"], ["user", "users.1"]],
    ["user-*", ["user-1", "user-", "user-ü b"], ["user-1.name", "user"]],
    ["*", ["a", "a/b", "a:b"], ["a.b"]],
    [">", ["a", "a.b", "...", "ü"], []],
    ["*.b", ["a.b"], ["a.c", "b", "a.b.c"]],
    ["a*c", ["ac", "abc", "a*c"], ["ab", "abcd"]],
    ["*:*", ["a:b", ":"], ["ab"]],
    ["ü*", ["ü", "über"], ["u", "Über"]],
    ["a>", ["a>"], ["ab", "a.b"]],
    ["=C*", ["=C3"], ["ü", "Ã"]],
  ])("%s matches %j and not %j", (filter, yes, no) => {
    const pattern = parsePattern(filter);
    expect(yes.filter((key) => !pattern.matches(encodeKey(key)))).toEqual([]);
    expect(no.filter((key) => pattern.matches(encodeKey(key)))).toEqual([]);
  });

  test.each([
    ["empty", ""],
    ["longer than 1024 bytes", "ü".repeat(513)],
    ["with > before its end", "a.>.b"],
    ["with > at its beginning", ">.a"],
    ["with nothing before .>", ".>"],
    ["with an empty token before .>", "a..>"],
    ["of more than 64 tokens with a star", `*${".a".repeat(64)}`],
    ["of more than 64 tokens with a star inside", `${"a.".repeat(64)}a*`],
    ["of more than 64 tokens with >", `${"a.".repeat(64)}>`],
    ["with a control character", "a\0*"],
    ["with half of a surrogate pair", "a\ud83d*"],
  ])("that is %s is refused as invalid_filter", (_what, filter) => {
    expect(codeOf(() => parsePattern(filter))).toBe("invalid_filter");
  });

  test("has up to 64 tokens with wildcards, and any number without", () => {
    const tokens = "a.".repeat(63);
    expect(parsePattern(`${tokens}*`).matches(`${tokens}b`)).toBe(true);
    expect(parsePattern(`${tokens}>`).matches(`${tokens}b.c`)).toBe(true);
    const many = `${"a.".repeat(500)}a`;
    expect(parsePattern(many)).toMatchObject({ subject: many, exact: true });
    expect(parsePattern(many).matches(many)).toBe(true);
    expect(parsePattern(many).matches(`${many}.a`)).toBe(false);
  });

  test("cannot be made to take long by its stars", () => {
    const pattern = parsePattern(`${"*a".repeat(400)}*b`);
    const started = performance.now();
    expect(pattern.matches("a".repeat(512))).toBe(false);
    expect(performance.now() - started).toBeLessThan(200);
  });

  test("made of a key matches that key only, whatever characters it has", () => {
    fc.assert(
      fc.property(keys, keys, (key, other) => {
        const pattern = keyPattern(key);
        expect(pattern.matches(encodeKey(key))).toBe(true);
        expect(pattern.matches(encodeKey(other))).toBe(key === other);
        expect(natsCovers(pattern.subject, encodeKey(other))).toBe(key === other);
      }),
      RUNS,
    );
  });

  test("for every key matches every key", () => {
    fc.assert(fc.property(keys, (key) => everyKey.matches(encodeKey(key))));
    expect(everyKey.exact).toBe(true);
  });
});
