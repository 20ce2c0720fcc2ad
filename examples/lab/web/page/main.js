/// <reference lib="dom" />
// @ts-check
// The page: puts its parts together, and what the server says into them.
import { byId, make, setOptions } from "./dom.js";
import { COLOURS, STYLE } from "./drawing/style.js";
import { Log } from "./log.js";
import { Own } from "./own.js";
import { Picture } from "./picture.js";
import { ServersView } from "./servers.js";
import { get, Session } from "./session.js";
import { SourceView } from "./source.js";

/** @import { Message } from "./session.js" */

/** @typedef {{ name: string, title: string, source: string, question: string, programs: { file: string }[] }} Lesson */

const sheet = new CSSStyleSheet();
sheet.replaceSync(COLOURS + STYLE);
document.adoptedStyleSheets = [sheet];

const notice = byId("trouble", HTMLElement);
const play = byId("play", HTMLButtonElement);
const next = byId("next", HTMLButtonElement);
const stop = byId("stop", HTMLButtonElement);
const steps = byId("steps", HTMLInputElement);
const slow = byId("slow", HTMLInputElement);
const step = byId("step", HTMLElement);
const rate = byId("rate", HTMLElement);
const verdict = byId("verdict", HTMLElement);
const select = byId("lesson-select", HTMLSelectElement);
const list = byId("lessons", HTMLOListElement);

/** @type {readonly Lesson[]} */
let lessons = [];
/** @type {Lesson | undefined} */
let lesson;
let view = "lessons";
/** Whether something runs on the stage, and whether it waits for the next step. */
let running = false;
let waiting = false;

const session = new Session(receive);
const log = new Log();
const source = new SourceView(tell);
const servers = new ServersView();
const picture = new Picture((snapshot) => {
  source.mark(snapshot);
  own.update(snapshot);
});
const own = new Own(
  async (action) => {
    if (action.action === "start" && !running) begin();
    await session.act(action);
  },
  tell,
  (file) => source.choose(file),
  (pid) => picture.select(pid),
);

/** @param {unknown} error What the reader should know; `undefined` for nothing. */
function tell(error) {
  notice.hidden = error === undefined;
  notice.textContent = error instanceof Error ? error.message : String(error ?? "");
}

/** @param {Message} message */
function receive(message) {
  picture.add(message);
  own.add(message);
  const moment = picture.latest;
  log.add(message, () => picture.showMoment(moment));
  switch (message.type) {
    case "say":
      step.textContent = message.text;
      break;
    case "waiting":
      waiting = true;
      break;
    case "rate":
      rate.textContent =
        `${message.perSecond.toFixed(0)} pictures a second of ${message.processes} ` +
        `processes take ${(message.share * 100).toFixed(1)} % of one processor.`;
      break;
    case "verdict":
      showVerdict(message);
      break;
    case "done":
      running = waiting = false;
      picture.showEnd();
      rate.textContent =
        "All that the lesson started has been ended. The picture shows how it was.";
      break;
    case "stopped":
      running = waiting = false;
      rate.textContent = "All has been ended.";
      break;
    case "ended":
      running = waiting = false;
      tell(message.reason);
      break;
    case "trouble":
      tell(message.text);
      break;
    default:
      return;
  }
  updateButtons();
}

/** Makes room for a new experiment. */
function begin() {
  tell(undefined);
  running = true;
  waiting = false;
  picture.clear();
  log.clear();
  step.textContent = "";
  rate.textContent = "";
  clearVerdict();
  updateButtons();
}

function clearVerdict() {
  verdict.className = "verdict";
  verdict.replaceChildren(make("p", { class: "muted" }, ["The answer comes after the evidence."]));
}

function updateButtons() {
  play.hidden =
    next.hidden =
    step.hidden =
    verdict.hidden =
      view !== "lessons";
  for (const box of [steps, slow]) {
    const label = box.parentElement;
    if (label !== null) label.hidden = view !== "lessons";
  }
  play.disabled = running || lesson === undefined;
  next.disabled = !waiting;
  stop.disabled = !running;
}

/** @param {Message} message */
function showVerdict({ holds, text, answer, read, next: following }) {
  verdict.className = `verdict ${holds ? "holds" : "differs"}`;
  const after = lessons.find(({ name }) => name === following);
  const go = make("button", { type: "button" }, [`Next lesson: ${after?.title ?? ""}`]);
  go.onclick = () => {
    if (after !== undefined) choose(after);
    byId("title", HTMLElement).scrollIntoView();
  };
  verdict.replaceChildren(
    make("p", {}, [make("b", {}, [text]), holds ? "" : ": it differs"]),
    make("p", {}, [answer]),
    make("p", {}, [
      "Read: ",
      ...read.flatMap((/** @type {string} */ item) => [reference(item), " "]),
    ]),
    ...(after === undefined ? [] : [make("p", {}, [go])]),
  );
}

/**
 * @param {string} item A manual page, or a file.
 * @returns {HTMLElement}
 */
function reference(item) {
  const [, name, section] = /^([\w-]+)\((\d)\)$/.exec(item) ?? [];
  return name === undefined ? make("code", {}, [item]) : make("a", {
    href: `https://man7.org/linux/man-pages/man${section}/${name}.${section}.html`,
    rel: "noreferrer",
  }, [item]);
}

/** @param {Lesson} chosen */
async function choose(chosen) {
  try {
    if (running) await session.act({ action: "stop" });
  } catch (error) {
    tell(error);
  }
  lesson = chosen;
  running = waiting = false;
  history.replaceState(null, "", `#${chosen.name}`);
  showTitle();
  source.offer(chosen.programs.map(({ file }) => file));
  picture.clear();
  log.clear();
  clearVerdict();
  step.textContent = "Think about the question first, then play the lesson.";
  rate.textContent = "Nothing runs.";
  select.value = chosen.name;
  for (const button of list.querySelectorAll("button")) {
    if (button.dataset.name === chosen.name) {
      button.setAttribute("aria-current", "true");
      button.scrollIntoView({ block: "nearest" });
    } else button.removeAttribute("aria-current");
  }
  updateButtons();
}

function showTitle() {
  const title = byId("title", HTMLElement);
  const question = byId("question", HTMLElement);
  if (view === "own") {
    title.textContent = "An experiment of your own";
    question.textContent =
      "Start a program, send it clients, and look. Click a process to mark it; signals go to the one that is chosen.";
  } else if (lesson !== undefined) {
    title.textContent = `${lesson.name}: ${lesson.title}`;
    question.textContent = lesson.question;
  }
}

/** @param {string} name */
async function switchTo(name) {
  if (name === view) return;
  const before = view;
  view = name;
  for (const button of document.querySelectorAll("[data-view]")) {
    if (button.getAttribute("data-view") === name) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  for (const part of document.querySelectorAll("[data-in]")) {
    part.toggleAttribute("hidden", !part.getAttribute("data-in")?.split(" ").includes(name));
  }
  servers.show(name === "servers");
  if (name === "servers" || before === "servers" && running) return updateButtons();
  if (name === "lessons" && lesson !== undefined) return await choose(lesson);
  try {
    if (running) await session.act({ action: "stop" });
  } catch (error) {
    tell(error);
  }
  begin();
  running = false;
  step.textContent = "Nothing runs yet.";
  showTitle();
  source.offer(own.files);
  source.choose(own.file);
  updateButtons();
}

/** @param {Record<string, unknown>} action */
async function act(action) {
  try {
    await session.act(action);
  } catch (error) {
    tell(error);
  }
}

play.onclick = async () => {
  if (lesson === undefined) return;
  begin();
  step.textContent = lesson.question;
  try {
    await session.act({
      action: "play",
      lesson: lesson.name,
      slow: slow.checked,
      steps: steps.checked,
    });
  } catch (error) {
    running = false;
    tell(error);
    updateButtons();
  }
};
next.onclick = () => {
  waiting = false;
  updateButtons();
  act({ action: "next" });
};
stop.onclick = () => act({ action: "stop" });
steps.onchange = () => {
  if (!running) return;
  if (!steps.checked) waiting = false;
  updateButtons();
  act({ action: steps.checked ? "pause" : "resume" });
};
select.onchange = () => {
  const chosen = lessons.find(({ name }) => name === select.value);
  if (chosen !== undefined) choose(chosen);
};
for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => switchTo(button.getAttribute("data-view") ?? "lessons"));
}
byId("view", HTMLElement).addEventListener("click", ({ target }) => {
  const pid = target instanceof Element
    ? target.closest("[data-pid]")?.getAttribute("data-pid")
    : undefined;
  picture.select(pid ?? undefined);
  if (pid) own.choose(pid);
});

updateButtons();
try {
  const catalogue = await get("lessons.json");
  lessons = catalogue.lessons;
  setOptions(
    select,
    lessons.map(({ name, title }) => ({ value: name, label: `${name}: ${title}` })),
  );
  list.replaceChildren(...lessons.map((entry) => {
    const button = make("button", { type: "button", "data-name": entry.name }, [
      make("b", {}, [entry.name]),
      entry.title,
    ]);
    button.onclick = () => choose(entry);
    return make("li", {}, [button]);
  }));
  own.offer(catalogue.programs, catalogue.signals);
  const wanted = decodeURIComponent(location.hash.slice(1));
  const first = lessons.find(({ name }) => name === wanted) ?? lessons[0];
  if (first !== undefined) await choose(first);
} catch (error) {
  tell(error);
}
document.querySelector("main")?.classList.remove("loading");
