/** A bell between callbacks and one loop: rings are kept until the loop has heard them, and many are as good as one. */
export class Wake {
  #rung = false;
  #listener: (() => void) | null = null;

  ring(): void {
    this.#rung = true;
    this.#listener?.();
  }

  /** Resolves when the bell has rung since the last time, or the signal aborts. For one waiter. */
  async heard(signal: AbortSignal): Promise<void> {
    if (!this.#rung && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          signal.removeEventListener('abort', done);
          this.#listener = null;
          resolve();
        };
        this.#listener = done;
        signal.addEventListener('abort', done, { once: true });
      });
    }
    this.#rung = false;
  }
}
