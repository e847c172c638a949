/**
 * Up to which change time a directory has been read. A change may be vouched for once everything that changed no later has been
 * read too, and that takes more than having seen it: the directory's own time tells of a file whose event is still
 * under way, and of two files of which one is still being written, the other one is read first.
 *
 * Times are microseconds since 1970, as the file system gives them.
 */
export class RevisionClaim {
  #revision = 0;
  /** Seen, and not vouched for yet. */
  #seen: number[] = [];

  get revision(): number {
    return this.#revision;
  }

  /** The newest change that waits to be vouched for; 0: none. */
  get newestUnclaimed(): number {
    return this.#seen.reduce((newest, at) => Math.max(newest, at), 0);
  }

  seen(changedAtUs: number): void {
    if (changedAtUs > this.#revision) this.#seen.push(changedAtUs);
  }

  /** Everything that changed before `limitUs` has been read. */
  claim(limitUs: number): void {
    const rest: number[] = [];
    for (const at of this.#seen) {
      if (at >= limitUs) rest.push(at);
      else if (at > this.#revision) this.#revision = at;
    }
    this.#seen = rest;
  }
}

/**
 * File systems stamp with the time of the last clock tick, and 100 ticks a second are the fewest that Linux is built with. So a change
 * that is yet to come may bear a time up to this much before now.
 */
export const clockTickUs = 10_000;
