/** An object that was refused; everything else goes on. */
export interface RejectedObject {
  readonly source: string;
  /** "Service default/web", or the file's path where no object could be told. */
  readonly object: string;
  /** "services.yaml:12:3", or the key or resource path. */
  readonly location: string;
  readonly reason: string;
  readonly sinceMs: number;
}

/** What is refused in the merged picture, beside what the sources refused themselves. */
export class Refusals {
  readonly #byPlace = new Map<string, RejectedObject>();

  all(): Iterable<RejectedObject> {
    return this.#byPlace.values();
  }

  /** `sinceMs` stays while the reason does. */
  set(place: string, nowUs: number, refused: Omit<RejectedObject, 'sinceMs'>): void {
    const before = this.#byPlace.get(place);
    const sinceMs = before?.reason === refused.reason ? before.sinceMs : Math.floor(nowUs / 1000);
    this.#byPlace.set(place, { ...refused, sinceMs });
  }

  clear(place: string): void {
    this.#byPlace.delete(place);
  }
}
