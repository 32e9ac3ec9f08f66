import fc from "fast-check";
import { expect, test } from "vitest";
import { Sequence } from "../../../src/watch/turn.ts";
import { extended, momentAt } from "./entries.ts";

const frames = Array.from({ length: 5 }, (_, i) => momentAt(i + 1).frames(extended)[0]!);

test("sequences of the same frames are one, whatever others there are, and are joined once", () => {
  const choices = fc.array(fc.array(fc.nat({ max: 4 }), { maxLength: 6 }), { maxLength: 20 });
  fc.assert(
    fc.property(choices, (all) => {
      const start = Sequence.empty();
      const found = new Map<string, Sequence>();
      for (const places of all) {
        const wanted = places.map((place) => frames[place]!);
        const sequence = wanted.reduce((before, frame) => before.with(frame), start);
        expect(sequence.frames).toEqual(wanted);
        expect(sequence.entries).toBe(places.length);
        expect(sequence.length).toBe(sequence.bytes.length);
        expect(sequence.bytes).toEqual(Buffer.concat(wanted.map(({ bytes }) => bytes)));
        const known = found.get(places.join());
        if (known !== undefined) expect(sequence).toBe(known);
        expect(sequence.bytes).toBe(sequence.bytes);
        found.set(places.join(), sequence);
      }
      expect(new Set(found.values()).size).toBe(found.size);
    }),
  );
});
