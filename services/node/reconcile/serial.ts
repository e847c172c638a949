/** Runs tasks one after the other, in the order in which they were given. */
export class Serial {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#last.then(task);
    // A task's failure is its caller's business; the next task starts all the same.
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** When everything given so far has ended. */
  async idle(): Promise<void> {
    await this.#last;
  }
}
