/**
 * Spreads connections over the workers. The kernel wakes the first in the wait queue that
 * is idle, so that while there is little to do, one worker would get them all; and
 * when there is more to do, those of its clients that keep their connections would
 * stay with it, while others are idle.
 */
import { after } from "../../../ffi/runtime/timers.ts";
import type { Acceptor } from "../../../ffi/runtime/acceptor.ts";
import { ADMIN, type Scoreboard, type Slot } from "../scoreboard.ts";

/** How often a worker goes to the end of the wait queue at most, in milliseconds. */
const TURN = 5;
/** A worker has too many connections when it has so many times its share, and a few. */
const TOLERANCE = 1.25;
const A_FEW = 2;

/** A worker's part in it. */
export interface Balance {
  /** At each request: who has had a connection goes to the end of the wait queue. */
  takeTurn(): void;
  /** When connections were counted: how many are to go elsewhere. */
  updateSurplus(): void;
  /** At each response: whether its client is to open another connection. */
  sheds(): boolean;
}

/** Takes part in spreading connections. */
export function balance(
  acceptors: readonly Acceptor[],
  slot: Slot,
  scoreboard: Scoreboard,
): Balance {
  let waits = false;
  let surplus = 0;
  return {
    takeTurn(): void {
      if (waits) return;
      waits = true;
      // To ask for the time at each request would cost more.
      after(TURN, () => waits = false);
      for (const acceptor of acceptors) acceptor.requeue();
    },
    updateSurplus(): void {
      const peers = scoreboard.slots.filter((one) => one.state === "ready" && one.number !== ADMIN);
      const all = peers.reduce((sum, { connections }) => sum + connections, 0);
      const share = all / Math.max(1, peers.length);
      const mine = slot.connections;
      surplus = mine > share * TOLERANCE + A_FEW ? Math.floor(mine - share) : 0;
    },
    sheds(): boolean {
      if (surplus === 0) return false;
      surplus--;
      return true;
    },
  };
}
