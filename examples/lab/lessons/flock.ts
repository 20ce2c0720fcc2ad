import type { Lesson } from "../lesson.ts";
import { lostRecords, RECORDS, WRITERS } from "./written.ts";

/** Two writers of one file, without a lock and with one. */
export const lesson: Lesson = {
  name: "flock",
  title: "Two writers, and the records that they lose",
  source: "Foundations of Python Network Programming, chapter 20: locking",
  question:
    `Two processes add ${RECORDS} records each to the same file. For each record, they read the ` +
    "file and write it again with the record at its end. No call fails. How many records are there " +
    "in the end?",
  answer:
    "As many as chance allows. Between the read and the write of one process the other one writes, " +
    "and what it has written is overwritten: a race condition. A lock around both, flock(LOCK_EX) " +
    "before the read and flock(LOCK_UN) after the write, makes the other process wait. A lock around " +
    "the write alone would not help. The kernel releases a lock when its file is closed, so also " +
    "when its process dies.",
  programs: [{
    file: WRITERS,
    decisive: `if (lock !== "none") locked.flock(LOCK_EX);`,
  }],
  read: ["flock(2)", WRITERS],
  next: "sharedlock",
  async run(stage) {
    const written = 2 * RECORDS;
    stage.say("First without a lock.");
    const without = await lostRecords(stage, "none");
    stage.note("records written", written);
    stage.expect("records lost without a lock", without, (lost) => lost >= 1, "at least 1");
    stage.say("And with one.");
    const withLock = await lostRecords(stage, "own");
    stage.expect("records lost with flock()", withLock, (lost) => lost === 0, "0");
  },
};
