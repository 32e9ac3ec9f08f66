/** How an API key is written: `jbk_<id>_<secret>`, its last six characters a checksum of all before them. */
import { createHash, randomInt } from "node:crypto";

/** What every API key begins with, for people and for scanners of leaked secrets. */
export const KEY_PREFIX = "jbk_";

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID = 12;
/** 256 bits. */
const SECRET = 43;
const CHECKSUM = 6;
const form = new RegExp(`^jbk_([0-9A-Za-z]{${ID}})_[0-9A-Za-z]{${SECRET + CHECKSUM}}$`);

/** A new key, never to be stored, and its id, which is not secret. */
export function newKeyText(): { id: string; text: string } {
  const id = randomText(ID);
  return { id, text: withChecksum(`${KEY_PREFIX}${id}_${randomText(SECRET)}`) };
}

/** The id in a key; undefined when this is no key: mistyped, cut off, or something else. */
export function idOfKeyText(text: string): string | undefined {
  const id = form.exec(text)?.[1];
  return id !== undefined && withChecksum(text.slice(0, -CHECKSUM)) === text ? id : undefined;
}

/** The checksum keeps mistakes apart from wrong keys. It protects nothing: anybody can compute it. */
function withChecksum(body: string): string {
  let rest = createHash("sha256").update(body).digest().readUIntBE(0, 6);
  let checksum = "";
  for (let i = 0; i < CHECKSUM; i++) {
    checksum += ALPHABET[rest % ALPHABET.length]!;
    rest = Math.floor(rest / ALPHABET.length);
  }
  return body + checksum;
}

function randomText(length: number): string {
  return Array.from({ length }, () => ALPHABET[randomInt(ALPHABET.length)]!).join("");
}
