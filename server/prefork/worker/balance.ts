/**
 * Balances connections across the workers. The kernel wakes the first idle worker in the wait
 * queue, and a worker that runs accepts all that wait. Under light load, or when many clients
 * connect at once, one worker would therefore get all connections; its clients with persistent
 * connections would stay with it while other workers are idle.
 */
import { after } from "../../../ffi/runtime/timers.ts";
import type { Acceptor } from "../../../ffi/runtime/acceptor.ts";
import { ADMIN, type Scoreboard, type Slot } from "../scoreboard.ts";

/** The shortest interval at which a worker moves to the end of the wait queue, in milliseconds. */
const TURN = 5;
/**
 * How long after it got a connection a worker computes how many should move elsewhere, in
 * milliseconds: clients that connected at the same time have been accepted by then.
 */
const SETTLE = 10;
/**
 * A worker has too many connections if it has more than its share times this factor, plus a few.
 */
const TOLERANCE = 1.25;
const A_FEW = 2;

/** A worker's part in the balancing. */
export interface Balance {
  /** Called for each request: a worker that got a connection moves to the end of the wait queue. */
  takeTurn(): void;
  /** Called for each new connection, instead of {@linkcode takeTurn}, by servers that can tell. */
  connected(): void;
  /** Called when a connection has ended of which {@linkcode connected} was told. */
  disconnected(): void;
  /** Called after the connections were counted: computes how many should move elsewhere. */
  updateSurplus(): void;
  /** Called for each response: returns whether its client should open another connection. */
  sheds(): boolean;
}

/** Joins the balancing of connections. */
export function balance(
  acceptors: readonly Acceptor[],
  slot: Slot,
  scoreboard: Scoreboard,
): Balance {
  let waits = false;
  let surplus = 0;
  let isSettling = false;

  function takeTurn(): void {
    if (waits) return;
    waits = true;
    // Reading the clock at each request would cost more.
    after(TURN, () => waits = false);
    for (const acceptor of acceptors) acceptor.requeue();
  }

  function findSurplus(): void {
    const peers = scoreboard.slots.filter((one) => one.state === "ready" && one.number !== ADMIN);
    const all = peers.reduce((sum, { connections }) => sum + connections, 0);
    const share = all / Math.max(1, peers.length);
    const mine = slot.connections;
    surplus = mine > share * TOLERANCE + A_FEW ? Math.floor(mine - share) : 0;
  }

  return {
    takeTurn,
    connected(): void {
      slot.connections++;
      takeTurn();
      if (isSettling) return;
      isSettling = true;
      after(SETTLE, () => {
        findSurplus();
        // Not twice between two counts: the clients may come back because the others are too busy.
        isSettling = surplus > 0;
      });
    },
    disconnected(): void {
      // It may have been left out of the last count already.
      slot.connections = Math.max(0, slot.connections - 1);
    },
    updateSurplus(): void {
      findSurplus();
      isSettling = false;
    },
    sheds(): boolean {
      if (surplus === 0) return false;
      surplus--;
      return true;
    },
  };
}
