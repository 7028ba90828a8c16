// How the machine in memory says no: as a command does that failed, and, to a question that it does not know, by an error that no
// code under test takes for one of its own.

/** A command ended with this status and these words. */
export class Refused extends Error {
  readonly status: number;
  constructor(status: number, words: string) {
    super(words);
    this.status = status;
  }
}

/** The program is killed there: this host answers nothing any more. */
export class Killed extends Error {}

/** The machine was asked for what it cannot do yet: teach it, and prove that by a case of same-as-kernel.test.ts. */
export class NotKnown extends Error {
  override name = 'NotKnown';
  constructor(what: string) {
    super(`the machine in memory does not know: ${what}`);
  }
}
