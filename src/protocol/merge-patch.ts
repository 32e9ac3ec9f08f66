/** JSON Merge Patch, RFC 7396. */

type JsonObject = Record<string, unknown>;

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * What a document becomes by a patch: members of the patch replace those of the document, null removes them, objects are
 * merged member by member, and anything else replaces the whole. Neither argument is changed.
 *
 * Results have no prototype, so that a member called `__proto__` is a member like any other.
 *
 * @example
 * mergePatch({ a: 1, b: { c: 2 } }, { a: null, b: { d: 3 } }); // { b: { c: 2, d: 3 } }
 */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const result: JsonObject = Object.create(null) as JsonObject;
  if (isObject(target)) for (const [name, value] of Object.entries(target)) result[name] = value;
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) Reflect.deleteProperty(result, name);
    else result[name] = mergePatch(Object.hasOwn(result, name) ? result[name] : undefined, value);
  }
  return result;
}

/**
 * A patch that makes one document of another; undefined when they are equal. Where the second holds nulls of its own, which
 * no merge patch can write, applying it gives the second without them.
 */
export function diffPatch(from: unknown, to: unknown): unknown {
  if (!isObject(from) || !isObject(to)) return isEqual(from, to) ? undefined : to;
  const patch: JsonObject = Object.create(null) as JsonObject;
  for (const name of Object.keys(from)) if (!Object.hasOwn(to, name)) patch[name] = null;
  for (const [name, value] of Object.entries(to)) {
    if (!Object.hasOwn(from, name)) {
      patch[name] = value;
      continue;
    }
    const inner = diffPatch(from[name], value);
    if (inner !== undefined) patch[name] = inner;
  }
  return Object.keys(patch).length === 0 ? undefined : patch;
}

function isEqual(a: unknown, b: unknown): boolean {
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, i) => isEqual(item, b[i]));
  }
  if (isObject(a) && isObject(b)) return diffPatch(a, b) === undefined;
  return a === b;
}
