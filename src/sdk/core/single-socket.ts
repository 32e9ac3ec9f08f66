import { closeCodes } from "../../protocol/close-codes.ts";
import { errorOf } from "./errors.ts";
import { queryOf } from "./paths.ts";
import { ABNORMAL_CLOSE, type Socket } from "./socket.ts";
import { realTimer } from "./timer.ts";
import type { ServerFrame } from "./watch-machine.ts";
import {
  OPEN_TIMEOUT_MS,
  type ConnectionEvent,
  type ConnectionListener,
  type LastToken,
  type WatchSocketOptions,
} from "./watch-socket.ts";

/** A socket for one watch, which its address names: opened anew whenever the watch begins again. */
export class SingleSocket {
  readonly #options: Required<WatchSocketOptions>;
  readonly #token: LastToken = {};

  constructor(options: WatchSocketOptions) {
    this.#options = { setTimer: realTimer, random: () => Math.random(), renews: false, ...options };
  }

  /**
   * Watches on a new socket.
   *
   * @param read what its frames say as frames of a bucket; undefined for a frame that says nothing
   * @returns ends the watch; the listener hears nothing more then
   */
  watch(
    since: string | undefined,
    read: (frame: unknown) => ServerFrame | undefined,
    listener: ConnectionListener,
  ): () => void {
    const { url, token, renews, openSocket, setTimer } = this.#options;
    const last = this.#token;
    let socket: Socket | undefined;
    let isOver = false;
    const leave = (): void => {
      isOver = true;
      cancelTimer();
      socket?.close();
    };
    const tell = (event: ConnectionEvent): void => {
      if (!isOver) listener(event);
    };
    const end = (event: ConnectionEvent): void => {
      if (isOver) return;
      leave();
      listener(event);
    };
    const onLost = (code: number, reason: string): void => {
      if (code === closeCodes.unauthenticated) last.isBad = true;
      end({ type: "lost", code, reason, ...(renews && { renews }) });
    };
    const cancelTimer = setTimer(
      () => end({ type: "lost", code: ABNORMAL_CLOSE, reason: "not open in time" }),
      OPEN_TIMEOUT_MS,
    );
    const open = async (): Promise<void> => {
      try {
        const bearer = await token(last.isBad === true ? last.text : undefined);
        last.text = bearer;
        last.isBad = false;
        if (isOver) return;
        const query = queryOf({ since });
        socket = openSocket(
          { url: url.includes("?") ? url + query.replace("?", "&") : url + query, token: bearer },
          {
            onOpen: () => {
              cancelTimer();
              tell({ type: "opened" });
            },
            onMessage: (text) => {
              const frame = read(parsed(text));
              if (frame !== undefined) tell({ type: "frame", frame });
            },
            onClose: onLost,
            onRefused: (error) => {
              if (renews && error.status === 401) onLost(closeCodes.unauthenticated, error.message);
              else end({ type: "refused", error });
            },
          },
        );
      } catch (thrown) {
        end({ type: "refused", error: errorOf(thrown, "network", "cannot watch") });
      }
    };
    void open();
    return leave;
  }

  /** A number in [0, 1) by chance. */
  jitter(): number {
    return this.#options.random();
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
