// The clients, in a process of their own: crowds of watchers, by name.
import { announce, answerCalls, endWithParent } from "../support/module-process.js";
import { Crowd } from "./crowd.js";
import { RawWebSocket } from "./websocket.js";

const crowds = new Map();
let stalled;

endWithParent();
answerCalls({
  gather: ({ name, ...options }) => void crowds.set(name, new Crowd(options)),
  connect: ({ name, ...options }) => crowds.get(name).connect(options),
  disconnect: ({ name }) => crowds.get(name).disconnect(),
  begin: ({ name, ...options }) => crowds.get(name).begin(options),
  mark: ({ name }) => crowds.get(name).mark(),
  reach: ({ name, ...options }) => crowds.get(name).reach(options),
  finish: ({ name, written }) => crowds.get(name).finish(written),
  /** Connects one more socket, and reads nothing from it once it is there. */
  stall: (options) =>
    new Promise((resolve, reject) => {
      stalled = new RawWebSocket(options, {
        onOpen() {
          stalled.stall();
          resolve();
        },
        onMessage: () => undefined,
        onEnd: (reason) => reject(new Error(reason)),
      });
    }),
  /** Cuts it. Returns whether it was stalled: something waited for it, and it was still open. */
  release() {
    const { isEstablished, unread } = stalled.tcp;
    const isStalled = isEstablished && unread > 0;
    stalled.destroy();
    return { isStalled, isEstablished, unread };
  },
});
announce();
