/** The style of the status page. No number that changes changes the size of anything. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #fff; --text: #1c2024; --quiet: #5a636d; --line: #c8ced4; --raised: #f5f7f8;
  --good: #1a7f4b; --busy: #2563a8; --wait: #8a5a00; --bad: #b3261e;
  --private: #2563a8; --shared: #9cc3ec; --room: #dfe4e8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15181b; --text: #e6e9ec; --quiet: #a0a9b2; --line: #3d454d; --raised: #1d2125;
    --good: #5cc98f; --busy: #7ab5f5; --wait: #e0b050; --bad: #ff8a80;
    --private: #7ab5f5; --shared: #35618f; --room: #2c3238;
  }
}
* { box-sizing: border-box; }
html { scrollbar-gutter: stable; }
body {
  margin: 0 auto; padding: 1rem; max-width: 75rem;
  background: var(--ground); color: var(--text);
  font: 1rem/1.4 system-ui, sans-serif; font-variant-numeric: tabular-nums;
}
h1, h2, h3, p, dl, dd, ul { margin: 0; padding: 0; }
h1 { font-size: 1.25rem; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
h3 { font-size: 1rem; font-weight: 600; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
a { color: var(--busy); overflow-wrap: anywhere; }
header { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: start; justify-content: space-between; }
button {
  min-width: 6rem; padding: .4rem .8rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--raised); color: inherit; font: inherit; cursor: pointer;
}
button[aria-pressed="true"] { background: var(--busy); color: var(--ground); }
:focus-visible { outline: 3px solid var(--busy); outline-offset: 2px; }
#message { min-height: 1.4em; color: var(--bad); }
dt { color: var(--quiet); font-size: .75rem; white-space: nowrap; }
dd { white-space: nowrap; }
.sums { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem 1rem; }
.sums dd { font-size: 1.25rem; overflow: hidden; text-overflow: ellipsis; }
.sums #times, .sums #starts { font-size: .875rem; white-space: normal; }
.sums #reload { font-size: 1rem; line-height: 1.75rem; }
.sums .wide { grid-column: span 2; }
[data-failed="true"] { color: var(--bad); }
#reason { color: var(--bad); overflow-wrap: anywhere; }
figure { margin: 1rem 0 0; }
figcaption { color: var(--quiet); font-size: .75rem; }
figcaption span { display: inline-block; min-width: 4em; color: var(--text); }
svg { display: block; width: 100%; }
.chart { height: 60px; border-bottom: 1px solid var(--line); }
.chart path { fill: none; stroke: var(--busy); stroke-width: 2; vector-effect: non-scaling-stroke; }
.private, .busy { fill: var(--private); }
.shared { fill: var(--shared); }
.room { fill: var(--room); }
ul { list-style: none; }
li li { position: relative; margin-left: 1.25rem; padding-left: .25rem; }
li li::before, li li::after { content: ""; position: absolute; left: -.75rem; border: 0 solid var(--line); }
li li::before { top: 0; height: 1.6rem; width: .9rem; border-width: 0 0 2px 2px; border-bottom-left-radius: .4rem; }
li li:not(:last-child)::after { top: 0; bottom: 0; border-left-width: 2px; }
li { padding-top: .5rem; }
li > h3, li > details, li > dl {
  background: var(--raised); border: 0 solid var(--line); border-left: .35rem solid var(--color); padding: .3rem .75rem;
}
li > h3 { border-radius: .4rem .4rem 0 0; padding-top: .5rem; }
li > dl { border-radius: 0 0 .4rem .4rem; padding-bottom: .6rem; }
li { --color: var(--quiet); }
li[data-state="ready"] { --color: var(--good); }
li[data-state="booting"], li[data-state="stopping"] { --color: var(--wait); }
li[data-state="stalled"] { --color: var(--bad); }
.state { color: var(--color); }
li > dl {
  display: grid; gap: .4rem 1rem;
  grid-template-columns: repeat(7, minmax(4.5rem, 1fr)) minmax(5rem, 1.2fr) minmax(12rem, 2fr);
}
li > dl svg { height: 10px; }
[data-kind="admin"] > dl > :not(.memory) { display: none; }
[data-kind="admin"] > dl > .memory { grid-column: 1 / -1; }
summary { cursor: pointer; display: flex; gap: .4rem; }
summary::before { content: "▸"; color: var(--quiet); }
[open] > summary::before { content: "▾"; }
.now { min-width: 0; font: .875rem/1.4 ui-monospace, monospace; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
[open] .now { white-space: normal; overflow-wrap: anywhere; }
.more { color: var(--quiet); font-size: .875rem; padding-left: 1.1rem; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; font-size: .875rem; }
th { color: var(--quiet); font-size: .75rem; font-weight: normal; text-align: start; }
th, td { padding: .2rem .75rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th:not(:last-child), td:not(:last-child) { width: 6rem; white-space: nowrap; }
td:last-child { overflow-wrap: anywhere; }
.key { display: inline-block; width: .8em; height: .8em; margin-left: .6em; border-radius: .15em; }
.key.private { background: var(--private); }
.key.shared { background: var(--shared); }
footer { margin-top: 1.5rem; color: var(--quiet); font-size: .875rem; }
[data-stale] main { opacity: .5; }
@media (max-width: 55rem) {
  li > dl { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  li > dl .load { grid-column: span 1; }
  li > dl .memory { grid-column: span 2; }
  li li { margin-left: .9rem; }
}
`;
