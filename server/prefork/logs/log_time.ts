/** The time of a request, in the forms that access logs have. */
import { strftime, unknownConversion } from "./strftime.ts";

/** Returns a text for a time in milliseconds since 1970. */
type TimeFormat = (time: number) => string;

/** `[20/Nov/2026:13:00:01 +0000]`, in local time. */
export const apacheTime: TimeFormat = strftimePerSecond("[%d/%b/%Y:%H:%M:%S %z]");

/** The formats that are no format of strftime(3). All times are whole milliseconds. */
const NAMED: Record<string, TimeFormat> = {
  "": apacheTime,
  sec: (time) => String(Math.floor(time / 1000)),
  msec: (time) => String(time),
  usec: (time) => `${time}000`,
  msec_frac: milliseconds,
  usec_frac: (time) => `${milliseconds(time)}000`,
};

/**
 * Returns the function that formats a time.
 *
 * @param format `sec`, `msec`, `usec`, `msec_frac`, `usec_frac`, or a format of strftime(3).
 * @returns The function; `undefined` if part of the format is not known.
 */
export function timeFormat(format: string): TimeFormat | undefined {
  if (Object.hasOwn(NAMED, format)) return NAMED[format];
  return unknownConversion(format) === undefined ? strftimePerSecond(format) : undefined;
}

const isoSecond = perSecond((date) => date.toISOString().slice(0, 19));

/** `2026-11-20T13:00:01.123Z`. */
export function jsonTime(time: number): string {
  return `${isoSecond(time)}.${milliseconds(time)}Z`;
}

function milliseconds(time: number): string {
  return String(time % 1000).padStart(3, "0");
}

function strftimePerSecond(format: string): TimeFormat {
  return perSecond((date) => strftime(format, date));
}

/** Caches a formatted time for as long as the second lasts. */
function perSecond(format: (date: Date) => string): TimeFormat {
  let second = -1;
  let text = "";
  return (time) => {
    const now = Math.floor(time / 1000);
    if (now !== second) {
      second = now;
      text = format(new Date(time));
    }
    return text;
  };
}
