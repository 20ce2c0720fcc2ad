// @ts-check

const LIGHT = `
  --paper: #fcfcfa; --card: #ffffff; --ink: #1d2330; --muted: #596172; --line: #cfd3da; --soft: #f0f1f3;
  --blue: #1f5fae; --blue-soft: #e3edf9; --green: #14703f; --green-soft: #e0f2e7;
  --red: #b3261e; --red-soft: #fbe6e4; --amber: #855400; --amber-soft: #fbeed2;`;
const DARK = `
  --paper: #13161b; --card: #1b2027; --ink: #e7eaef; --muted: #a2abb9; --line: #3a424e; --soft: #242a33;
  --blue: #82b6f5; --blue-soft: #1c3048; --green: #74d19c; --green-soft: #17362a;
  --red: #ff9d94; --red-soft: #43211f; --amber: #f0c067; --amber-soft: #3b2f17;`;

/** The colours, light and dark, as CSS variables of `:root` or of what contains them. */
export const COLOURS = `.tine { ${LIGHT} }
@media (prefers-color-scheme: dark) { .tine { ${DARK} } }`;

/** How a drawing looks. */
export const STYLE = `
.drawing { background: var(--paper); font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-variant-numeric: tabular-nums; }
.drawing text { fill: var(--ink); white-space: pre; }
.drawing .strong { font-weight: 600; }
.drawing .muted { fill: var(--muted); }
.drawing .heading { fill: var(--muted); font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; font-weight: 600; letter-spacing: .02em; }
.drawing .card > rect { fill: var(--card); stroke: var(--line); }
.drawing .card.zombie > rect { fill: var(--red-soft); stroke: var(--red); stroke-dasharray: 4 3; }
.drawing .card.stopped > rect { fill: var(--amber-soft); stroke: var(--amber); }
.drawing .card.listening > rect { stroke: var(--blue); }
.drawing .card.hung > rect { fill: var(--red-soft); stroke: var(--red); }
.drawing .cell rect { fill: var(--soft); stroke: var(--line); }
.drawing .cell.tcp rect { fill: var(--blue-soft); stroke: var(--blue); }
.drawing .tile rect { fill: var(--soft); stroke: var(--line); }
.drawing .tile.running rect, .drawing .tile.answered rect { fill: var(--green-soft); stroke: var(--green); }
.drawing .tile.sleeping rect, .drawing .tile.waiting rect, .drawing .tile.tcp rect { fill: var(--blue-soft); stroke: var(--blue); }
.drawing .tile.zombie rect, .drawing .tile.hung rect, .drawing .tile.refused rect, .drawing .tile.reset rect, .drawing .tile.gave-up rect { fill: var(--red-soft); stroke: var(--red); }
.drawing .tile.stopped rect, .drawing .tile.disk rect, .drawing .tile.connecting rect { fill: var(--amber-soft); stroke: var(--amber); }
.drawing .glyph { fill: none; stroke: var(--muted); stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.drawing .glyph.running { fill: var(--green); stroke: none; }
.drawing .glyph.answered { stroke: var(--green); }
.drawing .glyph.sleeping, .drawing .glyph.waiting { stroke: var(--blue); }
.drawing .glyph.zombie, .drawing .glyph.hung, .drawing .glyph.refused, .drawing .glyph.reset, .drawing .glyph.gave-up { stroke: var(--red); }
.drawing .glyph.stopped, .drawing .glyph.disk, .drawing .glyph.connecting { stroke: var(--amber); }
.drawing .word.running, .drawing .word.answered { fill: var(--green); }
.drawing .word.sleeping, .drawing .word.waiting { fill: var(--blue); }
.drawing .word.zombie, .drawing .word.hung, .drawing .word.refused, .drawing .word.reset, .drawing .word.gave-up { fill: var(--red); }
.drawing .word.stopped, .drawing .word.disk, .drawing .word.connecting { fill: var(--amber); }
.drawing .word.closed { fill: var(--muted); }
.drawing .slot { fill: var(--card); stroke: var(--line); }
.drawing .slot.full { fill: var(--blue); stroke: var(--blue); }
.drawing .slot.full.beyond { fill: var(--red); stroke: var(--red); }
.drawing .slot.beyond { stroke-dasharray: 2 2; }
.drawing .badge rect { fill: var(--soft); stroke: none; }
.drawing .badge.shared rect { fill: var(--amber-soft); }
.drawing .badge.shared text { fill: var(--amber); font-weight: 600; }
.drawing .badge.none rect { fill: var(--red-soft); }
.drawing .badge.none text { fill: var(--red); font-weight: 600; }
.drawing .signal rect { fill: none; stroke: var(--line); }
.drawing .signal.pending rect { fill: var(--amber-soft); stroke: var(--amber); }
.drawing .signal.pending text { fill: var(--amber); font-weight: 600; }
.drawing .branch { fill: none; stroke: var(--line); stroke-width: 2; }
.drawing .branch.pending { stroke: var(--amber); stroke-dasharray: 2 4; stroke-linecap: round; }
.drawing .arrow { fill: none; stroke: var(--muted); stroke-width: 1.2; opacity: .75; }
.drawing .arrow.tcp { stroke: var(--blue); stroke-width: 1.5; opacity: 1; }
.drawing .arrow.thin { stroke-width: .8; opacity: .4; }
.drawing .head { fill: var(--muted); stroke: none; }
.drawing .head.tcp { fill: var(--blue); }
.drawing .link { fill: none; stroke: var(--line); stroke-width: 1.5; }
.drawing .link.waiting, .drawing .link.connecting { stroke: var(--blue); stroke-dasharray: 5 4; }
.drawing .link.hung { stroke: var(--red); stroke-dasharray: 2 3; }
.drawing .link.answered { stroke: var(--green); }
.drawing .link.thin { stroke-width: .8; opacity: .5; }
.drawing .selected > rect { stroke: var(--ink); stroke-width: 2; stroke-dasharray: none; }
`;
