/** Positions, read by the protocol's documentation and not by the product's code. */

export interface Parsed {
  epoch: number;
  revision: number;
  hash: string | undefined;
}

export function parsed(position: string): Parsed | undefined {
  const match = /^([0-9a-z]+)-([0-9a-z]+)(?:-([0-9a-z]+))?$/.exec(position);
  if (match === null) return undefined;
  return {
    epoch: Number.parseInt(match[1]!, 36),
    revision: Number.parseInt(match[2]!, 36),
    hash: match[3],
  };
}

export function positionOf({ epoch, revision, hash }: Parsed): string {
  return [epoch.toString(36), revision.toString(36), ...(hash === undefined ? [] : [hash])].join(
    "-",
  );
}

/** The position behind a revision that was received. */
export function advanced(position: string, revision: number): string {
  const at = parsed(position);
  return at === undefined || at.revision >= revision ? position : positionOf({ ...at, revision });
}
