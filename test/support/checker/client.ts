/** A client of a checker run: it watches, loses its connection, comes back in all the ways there are, and keeps a record. */
import type { Random } from "../model-random.ts";
import { seenFrame, type Seen } from "./frames.ts";
import type { GatewaySlot } from "./gateways.ts";
import type { FrameFilter } from "./bugs.ts";
import {
  openEvents,
  openSocket,
  SharedSocket,
  type Link,
  type LinkEvents,
  type Transport,
  type WatchRequest,
} from "./links.ts";
import { parsed, positionOf } from "./position.ts";
import { Replica } from "./replica.ts";

/** With which position a connection begins. */
export type Resume = "fresh" | "right" | "old" | "other filter" | "old epoch" | "future";

export interface ClientPlan {
  name: string;
  transport: Transport;
  watch: Omit<WatchRequest, "since">;
  /** Whether it stops reading now and then. */
  isSlow: boolean;
  /** Milliseconds that a connection lives, on average. */
  patience: number;
}

/** The record of one connection. */
export interface Connection {
  gateway: number;
  /** Milliseconds since 1970. */
  started: number;
  opened?: number;
  resume: Resume;
  since: string | undefined;
  /** Where the state comes from with which it resumes: a place in the record. */
  from: Place | undefined;
  frames: Seen[];
  refused?: { status: number; code: string; at: number };
  closed?: { code: number; reason: string; at: number; byUs: boolean };
  wasPaused: boolean;
}

/** A place in a client's record: behind so many frames of a connection. */
export interface Place {
  connection: number;
  frames: number;
}

/** A few clients that share a socket, as the watches of a page do. */
export class Page {
  #socket: SharedSocket | undefined;
  #slot: GatewaySlot | undefined;
  #incarnation = 0;
  readonly strays: string[] = [];

  /** The socket, and the gateway that it leads to; a new one when there is none. */
  open(pick: () => GatewaySlot | undefined): { socket: SharedSocket; gateway: number } | undefined {
    if (this.#socket === undefined || this.#socket.isClosed) {
      this.#slot = pick();
      const api = this.#slot?.watchApi;
      if (api === undefined) return undefined;
      if (this.#socket !== undefined) this.strays.push(...this.#socket.strays);
      this.#socket = new SharedSocket(api);
      this.#incarnation = this.#slot!.incarnation;
    }
    return { socket: this.#socket, gateway: this.#incarnation };
  }

  close(): void {
    this.strays.push(...(this.#socket?.strays ?? []));
    this.#socket?.cut();
  }
}

export class Client {
  readonly plan: ClientPlan;
  readonly connections: Connection[] = [];
  replica: Replica;
  readonly #random: Random;
  readonly #slots: readonly GatewaySlot[];
  readonly #page: Page | undefined;
  readonly #filter: FrameFilter | undefined;
  #link: Link | undefined;
  #isFinishing = false;
  #isOver = false;
  /** What it had before its last connection. */
  #before: { place: Place | undefined; replica: Replica } | undefined;
  /** Where it goes on, when that is not where its last connection ended. */
  #from: Place | undefined;
  #isFrozen = false;
  #checkpoints: { place: Place; replica: Replica }[] = [];
  /** Positions of before, also of buckets that are gone. */
  #past: string[] = [];
  /** A position of a client with other filters. */
  othersPosition: (() => string | undefined) | undefined;
  #wake: () => void = () => undefined;

  constructor(
    plan: ClientPlan,
    random: Random,
    slots: readonly GatewaySlot[],
    page: Page | undefined,
    filter: FrameFilter | undefined,
  ) {
    this.plan = plan;
    this.#random = random;
    this.#slots = slots;
    this.#page = page;
    this.#filter = filter;
    this.replica = new Replica(plan.transport === "plain" ? "plain" : "building");
  }

  get #isPlain(): boolean {
    return this.plan.transport === "plain";
  }

  /** The connection that lives now. */
  get current(): Connection | undefined {
    const last = this.connections.at(-1);
    return last !== undefined && last.refused === undefined && last.closed === undefined
      ? last
      : undefined;
  }

  /** Comes and goes until {@link finish}, then stays; ends with {@link end}. */
  async run(): Promise<void> {
    const random = this.#random;
    while (!this.#isOver) {
      const connection = this.#isFrozen ? undefined : this.#connect();
      if (connection === undefined) {
        await this.#pause(20);
        continue;
      }
      await this.#stay(connection);
      if (isOpen(connection)) this.#leave(connection);
      this.#goBack(connection);
      connection.wasPaused ||= this.#link?.wasPaused === true;
      this.#link = undefined;
      await this.#pause(
        this.#isFinishing || connection.refused !== undefined ? 50 : random.int(0, 800),
      );
    }
  }

  /** Lives with a connection until it ends, or as long as the client likes it. */
  async #stay(connection: Connection): Promise<void> {
    const random = this.#random;
    const ends = Date.now() + random.int(50, 2 * this.plan.patience);
    const stays = (): boolean =>
      isOpen(connection) && !this.#isOver && (this.#isFinishing || Date.now() < ends);
    while (stays()) {
      if (this.plan.isSlow && !this.#isFinishing && random.chance(0.5)) {
        this.#link?.pause();
        connection.wasPaused = true;
        await this.#pause(random.int(100, 1_500), connection);
        this.#link?.resume();
      }
      const rest = Math.max(1, Math.min(ends - Date.now(), random.int(20, 500)));
      await this.#pause(this.#isFinishing ? 100 : rest, connection);
      if (random.chance(0.4)) this.#keepCheckpoint();
    }
  }

  /** No more disturbances: connects, if it is not connected, and stays so. */
  finish(): void {
    this.#isFinishing = true;
    this.#wake();
  }

  /** Its record and what it knows stay as they are now. */
  freeze(): void {
    this.#isFrozen = true;
  }

  end(): void {
    this.#isOver = true;
    this.#link?.cut();
    this.#page?.close();
    this.#wake();
  }

  /** A position that leads nowhere is not kept when the gateway has said nothing to it. */
  #goBack({ resume, frames }: Connection): void {
    if (resume !== "other filter" && resume !== "old epoch" && resume !== "future") return;
    if (frames.some(({ type }) => type === "reset" || type === "ready" || type === "changes"))
      return;
    this.replica = this.#before!.replica;
    this.#from = this.#before!.place;
  }

  #leave(connection: Connection): void {
    const clean = this.#random.chance(0.5);
    // What arrives after a client has decided to go is nothing to it.
    connection.closed = { code: clean ? 1000 : 1006, reason: "", at: Date.now(), byUs: true };
    if (clean) this.#link?.close();
    else this.#link?.cut();
  }

  #keepCheckpoint(): void {
    const { position, phase } = this.replica;
    if (position === undefined || phase !== "live") return;
    this.#checkpoints.push({
      place: {
        connection: this.connections.length - 1,
        frames: this.connections.at(-1)!.frames.length,
      },
      replica: this.replica.copy(),
    });
    this.#past.push(position);
    if (this.#checkpoints.length > 8) this.#checkpoints.shift();
  }

  #chooseResume(): Resume {
    const { position } = this.replica;
    if (this.#isPlain) return "fresh";
    if (this.#isFinishing) return position === undefined ? "fresh" : "right";
    if (position === undefined) return "fresh";
    return this.#random.weighted<Resume>([
      [60, "right"],
      [14, "old"],
      [10, "fresh"],
      [6, "other filter"],
      [5, "old epoch"],
      [5, "future"],
    ]);
  }

  #connect(): Connection | undefined {
    let resume = this.#chooseResume();
    let since: string | undefined;
    let from = this.#from ?? this.#place();
    this.#from = undefined;
    this.#before = { place: from, replica: this.replica.copy() };
    switch (resume) {
      case "fresh":
        from = undefined;
        break;
      case "right":
        since = this.replica.position;
        break;
      case "old": {
        const checkpoint =
          this.#checkpoints.length === 0 ? undefined : this.#random.pick(this.#checkpoints);
        if (checkpoint !== undefined) {
          from = checkpoint.place;
          this.replica = checkpoint.replica.copy();
        } else resume = "right";
        since = this.replica.position;
        break;
      }
      case "other filter":
        since = this.othersPosition?.();
        break;
      case "old epoch": {
        const now = parsed(this.replica.position!)!;
        since =
          this.#past.find((position) => parsed(position)?.epoch !== now.epoch) ??
          positionOf({ ...now, epoch: now.epoch - this.#random.int(1, 100_000) });
        break;
      }
      case "future": {
        const now = parsed(this.replica.position!)!;
        since = positionOf({ ...now, revision: now.revision + 1_000_000 });
        break;
      }
    }
    if (since === undefined) {
      resume = "fresh";
      from = undefined;
    }
    if (resume === "fresh") this.replica = new Replica(this.#isPlain ? "plain" : "building");
    else this.replica.resume(since!);
    const connection = this.#open(resume, since, from);
    if (connection === undefined) {
      this.replica = this.#before.replica;
      this.#from = this.#before.place;
    }
    return connection;
  }

  /** Behind all that was recorded. */
  #place(): Place | undefined {
    const last = this.connections.length - 1;
    return last < 0
      ? undefined
      : { connection: last, frames: this.connections[last]!.frames.length };
  }

  #open(
    resume: Resume,
    since: string | undefined,
    from: Place | undefined,
  ): Connection | undefined {
    const watch: WatchRequest = { ...this.plan.watch, since };
    const shared = this.#page?.open(() => this.#random.pick(this.#slots));
    const slot = this.#random.pick(this.#slots);
    const api = slot.watchApi;
    if (this.#page === undefined ? api === undefined : shared === undefined) return undefined;
    const connection: Connection = {
      gateway: shared?.gateway ?? slot.incarnation,
      started: Date.now(),
      resume,
      since,
      from,
      frames: [],
      wasPaused: false,
    };
    this.connections.push(connection);
    const events = this.#events(connection);
    if (shared !== undefined) this.#link = shared.socket.watch(watch, events);
    else if (this.plan.transport === "sse")
      this.#link = openEvents(api!, watch, this.#random.chance(0.5), events);
    else this.#link = openSocket(api!, watch, this.#isPlain, events);
    return connection;
  }

  #events(connection: Connection): LinkEvents {
    const spoil = this.#filter?.(this.plan, connection);
    return {
      onOpen: () => (connection.opened = Date.now()),
      onFrame: (frame, id) => {
        // Left already, or ended: for a socket of its own nothing can follow, and a shared one is checked elsewhere.
        if (connection.closed !== undefined || this.#isFrozen) return;
        for (const each of spoil === undefined ? [frame] : spoil(frame)) {
          const seen = seenFrame(each, Date.now());
          if (id !== undefined) seen.id = id;
          connection.frames.push(seen);
          this.replica.take(seen, this.plan);
        }
      },
      onRefused: (status, code) => {
        if (connection.closed === undefined && !this.#isFrozen)
          connection.refused ??= { status, code, at: Date.now() };
        this.#wake();
      },
      onClosed: (code, reason) => {
        if (!this.#isFrozen) connection.closed ??= { code, reason, at: Date.now(), byUs: false };
        this.#wake();
      },
    };
  }

  /** Waits some milliseconds, less when the connection ends. */
  async #pause(milliseconds: number, connection?: Connection): Promise<void> {
    if (this.#isOver || (connection !== undefined && !isOpen(connection))) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

const isOpen = ({ refused, closed }: Connection): boolean =>
  refused === undefined && closed === undefined;
