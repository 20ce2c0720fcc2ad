/** Time in the formats of strftime(3), in the C locale and in local time. */

const MONTHS = names(
  "January February March April May June July August September October November December",
);
const DAYS = names("Sunday Monday Tuesday Wednesday Thursday Friday Saturday");
const DAY = 86_400_000;

/** The conversions. Those that the locale decides are the C locale's. */
const CONVERSIONS: Record<string, string | ((date: Date) => string | number)> = {
  a: (date) => DAYS[date.getDay()]!.slice(0, 3),
  A: (date) => DAYS[date.getDay()]!,
  b: (date) => MONTHS[date.getMonth()]!.slice(0, 3),
  B: (date) => MONTHS[date.getMonth()]!,
  c: "%a %b %e %H:%M:%S %Y",
  C: (date) => two(date.getFullYear() / 100),
  d: (date) => two(date.getDate()),
  D: "%m/%d/%y",
  e: (date) => String(date.getDate()).padStart(2),
  F: "%Y-%m-%d",
  g: (date) => two(isoWeek(date).year % 100),
  G: (date) => isoWeek(date).year,
  h: "%b",
  H: (date) => two(date.getHours()),
  I: (date) => two(date.getHours() % 12 || 12),
  j: (date) => String(dayOfYear(date) + 1).padStart(3, "0"),
  k: (date) => String(date.getHours()).padStart(2),
  l: (date) => String(date.getHours() % 12 || 12).padStart(2),
  m: (date) => two(date.getMonth() + 1),
  M: (date) => two(date.getMinutes()),
  p: (date) => date.getHours() < 12 ? "AM" : "PM",
  P: (date) => date.getHours() < 12 ? "am" : "pm",
  r: "%I:%M:%S %p",
  R: "%H:%M",
  s: (date) => Math.floor(date.getTime() / 1000),
  S: (date) => two(date.getSeconds()),
  T: "%H:%M:%S",
  u: (date) => date.getDay() || 7,
  U: (date) => two((dayOfYear(date) + 7 - date.getDay()) / 7),
  V: (date) => two(isoWeek(date).week),
  w: (date) => date.getDay(),
  W: (date) => two((dayOfYear(date) + 7 - (date.getDay() + 6) % 7) / 7),
  x: "%m/%d/%y",
  X: "%H:%M:%S",
  y: (date) => two(date.getFullYear() % 100),
  Y: (date) => date.getFullYear(),
  z: zone,
  "%": () => "%",
};

/** The letters of the conversions. */
export const STRFTIME_CONVERSIONS: string = Object.keys(CONVERSIONS).join("");

/**
 * Formats a time.
 *
 * @param format The format, all of whose conversions are known.
 * @param date The time.
 * @see {@link https://man7.org/linux/man-pages/man3/strftime.3.html strftime(3)}
 */
export function strftime(format: string, date: Date): string {
  return format.replace(/%(.)/g, (_, letter) => {
    const conversion = CONVERSIONS[letter]!;
    return typeof conversion === "string" ? strftime(conversion, date) : String(conversion(date));
  });
}

/** Returns the first conversion of a format that {@linkcode strftime} does not know. */
export function unknownConversion(format: string): string | undefined {
  return format.match(/%.?/g)?.find((one) => !Object.hasOwn(CONVERSIONS, one.slice(1)));
}

/** Returns the days since the year began, whatever daylight saving time does to their length. */
function dayOfYear(date: Date): number {
  const year = date.getFullYear();
  return (Date.UTC(year, date.getMonth(), date.getDate()) - Date.UTC(year, 0)) / DAY;
}

/** Returns the week of ISO 8601, which belongs to the year that its Thursday is in. */
function isoWeek(date: Date): { year: number; week: number } {
  const thursday = new Date(date);
  thursday.setHours(12);
  thursday.setDate(date.getDate() + 4 - (date.getDay() || 7));
  return { year: thursday.getFullYear(), week: Math.floor(dayOfYear(thursday) / 7) + 1 };
}

/** Returns the offset from UTC, such as `+0100`. */
function zone(date: Date): string {
  const offset = -date.getTimezoneOffset();
  const minutes = Math.abs(offset);
  return `${offset < 0 ? "-" : "+"}${two(minutes / 60)}${two(minutes % 60)}`;
}

function two(number: number): string {
  return String(Math.floor(number)).padStart(2, "0");
}

function names(text: string): readonly string[] {
  return text.split(" ");
}
