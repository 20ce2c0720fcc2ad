// @ts-check
// Remembers where things are drawn: what stays, stays in its place, and a newcomer takes the first
// free one.

/** The places of what was drawn before. */
export class Places {
  /** @type {Map<string, Map<string, number>>} */
  #groups = new Map();
  /** @type {Map<string, number>} */
  #most = new Map();

  /**
   * Gives each key a place from 0 on.
   *
   * @param {string} group What shares places.
   * @param {readonly string[]} keys All that are there now; newcomers take places in this order.
   * @returns {ReadonlyMap<string, number>}
   */
  assign(group, keys) {
    const before = this.#groups.get(group);
    const wanted = new Set(keys);
    /** @type {Map<string, number>} */
    const places = new Map();
    const taken = new Set();
    for (const [key, place] of before ?? []) {
      if (!wanted.has(key)) continue;
      places.set(key, place);
      taken.add(place);
    }
    let free = 0;
    for (const key of keys) {
      if (places.has(key)) continue;
      while (taken.has(free)) free++;
      places.set(key, free);
      taken.add(free);
    }
    this.#groups.set(group, places);
    return places;
  }

  /**
   * Returns the largest number that was ever given under this name, so that room once taken stays.
   *
   * @param {string} name
   * @param {number} value
   * @returns {number}
   */
  most(name, value) {
    const most = Math.max(value, this.#most.get(name) ?? 0);
    this.#most.set(name, most);
    return most;
  }
}
