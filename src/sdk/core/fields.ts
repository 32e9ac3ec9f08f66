/** `ttlSeconds` for `ttl_seconds`: the wire's fields under JavaScript's names. New fields of a server come along. */
export function camelFields(body: object): unknown {
  return rename(body, camelName);
}

export function camelName(name: string): string {
  return name.replace(/_(\w)/g, (_, first: string) => first.toUpperCase());
}

/** The inverse of {@link camelFields}. */
export function snakeFields(options: object): object {
  return rename(options, (name) => name.replace(/[A-Z]/g, (upper) => `_${upper.toLowerCase()}`));
}

function rename(from: object, by: (name: string) => string): object {
  return Object.fromEntries(Object.entries(from).map(([name, value]) => [by(name), value]));
}
