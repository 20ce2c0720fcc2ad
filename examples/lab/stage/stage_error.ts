/** What was expected on the stage did not happen: the lesson's verdict is that it differs. */
export class StageError extends Error {
  override readonly name = "StageError";
  /** The figure that differs. */
  readonly figure: string;
  /** What was there instead. */
  readonly found: string;
  /** What was expected. */
  readonly expected: string;

  constructor(figure: string, found: string, expected: string) {
    super(`${figure}: ${found}, expected ${expected}`);
    this.figure = figure;
    this.found = found;
    this.expected = expected;
  }
}
