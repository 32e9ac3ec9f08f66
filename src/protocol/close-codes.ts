/**
 * Why a watch socket ended. Codes of the 44xx range are final: reconnecting will not help. After 1001 a client
 * reconnects at once, after anything else with backoff.
 */
export const closeCodes = {
  /** The client or the gateway ended the watch on purpose. */
  normal: 1000,
  /** The gateway drains: reconnect now, another one answers. */
  goingAway: 1001,
  /** The gateway or this socket is overloaded: reconnect later. */
  overloaded: 1013,
  badRequest: 4400,
  unauthenticated: 4401,
  forbidden: 4403,
  /** The bucket was deleted, or deleted and created again. */
  bucketGone: 4404,
  tooManyWatches: 4429,
} as const;

/** Whether a client must not reconnect after this close code. */
export function isFinalCloseCode(code: number): boolean {
  return code >= 4400 && code < 4500 && code !== closeCodes.tooManyWatches;
}

/** The WebSocket subprotocol under which a gateway sends more than plain `kv_update` frames. */
export const SUBPROTOCOL = "jetbucket.v1";
