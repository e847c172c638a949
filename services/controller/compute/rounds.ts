/** Walks over a set again and again, a few members at a time. Who comes while a round is under way is part of the next. */
export class Rounds<Member> {
  readonly #members: () => Iterable<Member>;
  #left: Member[] = [];

  constructor(members: () => Iterable<Member>) {
    this.#members = members;
  }

  /** The next `count` members, or as many as are left of this round; none when there are no members. */
  next(count: number): readonly Member[] {
    if (this.#left.length === 0) this.#left = [...this.#members()];
    return this.#left.splice(-count);
  }
}
