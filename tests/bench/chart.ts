/** Bar charts as SVG: a bar for each median, with a whisker from the minimum to the maximum. */

/** One bar. */
export interface Bar {
  readonly label: string;
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

/** A group of bars with a scale of its own. */
export interface Panel {
  readonly title: string;
  readonly bars: readonly Bar[];
  /** The value of the dashed line with which the bars are compared. */
  readonly line: number;
}

const WIDTH = 860;
const LABELS = 210; // left of the bars
const FIGURES = 190; // right of them
const ROW = 26;
const TITLE = 48;

/** Draws the panels, one below the other. */
export function barChart(panels: readonly Panel[], footnote: string): string {
  let top = 0;
  const body = panels.map((panel) => {
    const drawn = drawPanel(panel, top);
    top += TITLE + ROW * panel.bars.length;
    return drawn;
  });
  const height = top + 40;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" ` +
    `viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="13">\n` +
    `<rect width="${WIDTH}" height="${height}" fill="white"/>\n${body.join("")}` +
    text(16, height - 14, footnote, `font-size="11" fill="#666"`) + "</svg>\n";
}

function drawPanel({ title, bars, line }: Panel, top: number): string {
  const most = Math.max(line, ...bars.map(({ max }) => max));
  const x = (value: number) => LABELS + value / most * (WIDTH - LABELS - FIGURES);
  const first = top + TITLE;
  const rows = bars.map((bar, i) => drawBar(bar, first + ROW * i, x));
  const at = x(line).toFixed(1);
  return text(16, top + 32, title, `font-weight="bold"`) + rows.join("") +
    `<line x1="${at}" y1="${first - 4}" x2="${at}" y2="${first + ROW * bars.length}" ` +
    `stroke="#333" stroke-dasharray="3 3"/>\n`;
}

function drawBar(
  { label, min, median, max }: Bar,
  y: number,
  x: (value: number) => number,
): string {
  const middle = y + ROW / 2 - 2;
  const [left, right] = [x(min).toFixed(1), x(max).toFixed(1)];
  return text(LABELS - 8, middle + 4, label, `text-anchor="end"`) +
    `<rect x="${LABELS}" y="${y}" width="${(x(median) - LABELS).toFixed(1)}" height="${ROW - 6}" ` +
    `fill="${label.startsWith("tine") ? "#2a6f97" : "#a9bcc9"}"/>\n` +
    `<path d="M${left} ${middle - 4}v8m0-4H${right}m0-4v8" stroke="#333" fill="none"/>\n` +
    text(
      WIDTH - FIGURES + 12,
      middle + 4,
      `${median.toFixed(2)} (${min.toFixed(2)} - ${max.toFixed(2)})`,
    );
}

function text(x: number, y: number, content: string, attributes = ""): string {
  const escaped = content.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  return `<text x="${x}" y="${y}" ${attributes}>${escaped}</text>\n`;
}
