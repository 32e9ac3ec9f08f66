import { Lifetime } from "../support/lifetime.js";
import { measureRound } from "./rounds.js";
import { startStack } from "./stack.js";

/** A system with a crowd that is connected to it, measured round by round. */
export class Contender {
  #parent;
  #options;
  #up;

  /**
   * @param {import("../support/lifetime.js").Lifetime} lifetime
   * @param {keyof typeof import("./stack.js").systems} name
   * @param {{ folder: string, size: number, warmUp: object, profile?: string }} options `size` of the crowd; `warmUp` is the
   *   load by which it compiles what it will run
   */
  constructor(lifetime, name, options) {
    this.#parent = lifetime;
    this.name = name;
    this.#options = options;
  }

  /** Measures a round. A system that did not cope with it is stopped, and begins the next one afresh. */
  async round(load) {
    const { lifetime, stack, crowd } = (this.#up ??= await this.#start());
    try {
      const round = await measureRound(stack, crowd, load);
      if (!round.isSettled || round.closed > 0) await this.close();
      return round;
    } catch (error) {
      await lifetime.close();
      throw error;
    }
  }

  async close() {
    const up = this.#up;
    this.#up = undefined;
    await up?.lifetime.close();
  }

  async #start() {
    const { size, warmUp, ...options } = this.#options;
    const lifetime = new Lifetime();
    this.#parent.own(() => lifetime.close());
    const stack = await startStack(lifetime, this.name, options);
    const crowd = await stack.gather("crowd", { size });
    await crowd.connect();
    await measureRound(stack, crowd, warmUp);
    return { lifetime, stack, crowd };
  }
}
