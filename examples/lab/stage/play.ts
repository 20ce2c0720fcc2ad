/** Plays a lesson from its question to its verdict. */
import type { Lesson } from "../lesson.ts";
import { LiveStage, type StageOptions } from "./stage.ts";

/** How a lesson is played. */
export interface PlayOptions extends StageOptions {
  /** Awaited between the question and the experiment. */
  readonly ready?: () => Promise<void>;
  /** Is given the stage before the experiment. */
  readonly prepare?: (stage: LiveStage) => void;
  /** Ends the lesson. */
  readonly signal?: AbortSignal;
}

/**
 * Plays a lesson, and ends all that it started.
 *
 * @returns Whether all figures were as expected.
 * @throws The signal's reason if it was aborted.
 */
export async function playLesson(lesson: Lesson, options: PlayOptions): Promise<boolean> {
  const { emit, ready, prepare, signal } = options;
  const { name, title, source, question, programs, answer, read, next } = lesson;
  signal?.throwIfAborted();
  emit({ type: "lesson", name, title, source, question, programs });
  await ready?.();
  const stage = new LiveStage(options);
  prepare?.(stage);
  const end = () => stage[Symbol.asyncDispose]();
  signal?.addEventListener("abort", end);
  try {
    await lesson.run(stage);
    signal?.throwIfAborted();
  } catch (error) {
    signal?.throwIfAborted();
    stage.fail(error);
  } finally {
    signal?.removeEventListener("abort", end);
    await end();
  }
  const wrong = stage.compared.filter(({ holds }) => !holds).map(({ figure }) => figure);
  const count = stage.compared.length;
  const holds = count > 0 && wrong.length === 0;
  const text = holds
    ? `As expected: ${count === 1 ? "the figure is" : `all ${count} figures are`} right`
    : `This differs: ${wrong.join(", ") || "nothing was compared"}`;
  emit({
    type: "verdict",
    holds,
    text,
    answer,
    read,
    ...next !== undefined && { next },
  });
  return holds;
}
